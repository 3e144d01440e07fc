"""Which digits of a log line are somebody's number, and which are not."""

import random
import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, quote_plus

import phonenumbers
import pytest

from infra.caller_numbers import mask_numbers

HIDDEN = (
    # As access logs show an address and a form.
    ('"POST /twilio/voice?From=%2B447700900123&To=x HTTP/1.1" 200', "%2B44********23"),
    ("/console/calls?number=%2b447700900123", "%2b44********23"),
    ("next=%252B447700900123", "%252B44********23"),
    ("From=%2B1%20%28202%29%20555-0123", "%2B1%20%282**%29%20***-**23"),
    ("From=%2B44+7700+900123", "%2B44+****+****23"),
    ("q=a+447700900123", "+44********23"),
    ("x%3D2025550123%26", "%3D20******23%26"),
    ("x%222025550123%22", "%2220******23%22"),
    ("sip%3A07700900123%40host", "sip%3A07*******23%40host"),
    ("/console/calls?number=5550123&before=123456", "number=55***23&before=123456"),
    ("Caller=07700900&CallStatus=ringing", "Caller=07****00&"),
    # As people write them in their country.
    ("07700 900123", "07*** ****23"),
    ("(020) 7946 0958", "(02*) **** **58"),
    ("020 7946 0958 rang", "02* **** **58 rang"),
    ("caller 0171/1234567", "01**/*****67"),
    ("01 23 45 67 89", "01 ** ** ** 89"),
    ("01.23.45.67.89", "01.**.**.**.89"),
    ("06-12345678", "06-******78"),
    ("07700%20900123", "07***%20****23"),
    ("0044 20 7946 0958", "00** ** **** **58"),
    ("00 44 7700 900123", "00 ** **** ****23"),
    ("number,07700 900123,", "number,07*** ****23,"),
    ("+44 (0)20 7946 0958", "+44 (*)** **** **58"),
    ("call 555-0123 back", "call 55*-**23 back"),
    ("from 555-0123.", "from 55*-**23."),
    ("202-555-0123", "20*-***-**23"),
    ("1-202-555-0123", "1-2**-***-**23"),
    ("1 (202) 555-0123", "1 (2**) ***-**23"),
    ("(202)555-0123", "(20*)***-**23"),
    ("(202) 5550123", "(20*) *****23"),
    ("202-5550123", "20*-*****23"),
    ("SIP/2025550123-0000001a", "SIP/20******23-0000001a"),
    # What stands beside them stays.
    ("+12025550123 5060", "+12*******23 5060"),
    ("+49 30 901820 12:30:05", "+49 ** ****20 12:30:05"),
    ("+49 30 901820 took 12.5 s", "+49 ** ****20 took 12.5 s"),
    ("07700 900123 12:30:05", "07*** ****23 12:30:05"),
)


@pytest.mark.parametrize(("line", "shown"), HIDDEN)
def test_numbers_are_masked_in_every_form(line: str, shown: str) -> None:
    masked = mask_numbers(line)
    assert shown in masked
    assert mask_numbers(masked) == masked


@pytest.mark.parametrize(
    "line",
    [
        "call CA0123456789abcdef0123456789abcdef ended after 12.5 s",
        "call 01234567890123456789012345678901 of trace 0123456789abcdef",
        "listening on 192.168.100.200:50600, process 1234567",
        "10.1.2.3 and 0.0.0.0:8080, [::1]:5060, 10.0.0.0/8",
        "550e8400-e29b-41d4-a716-446655440000 took 1234.5678901234 ms",
        "01234567-8901-4234-8567-012345678901",
        "2026-11-28T05:00:00.123456+00:00 read 12345678 bytes",
        "version 0.1.0 of 2026-11-28, port 5060, 99+1",
        "01/02/2026 03:04:05, 01.02.2026 10:11, 01-02-2026, 20261128, 20261128050000",
        "[28/Nov/2026:05:00:00 +0000] (1234)",
        "Sat, 28 Nov 2026 05:00:00 +0000 (1234)",
        '"GET /console HTTP/1.1" 200 1234',
        '"GET /audio.wav HTTP/1.1" 206 5550123',
        "bytes 200-1999/20000, bytes=500-1999, ports 6000-6999, lines 200-1000",
        "200-1000 ms, 300-4000 Hz, 555-2000 samples",
        "10737418240 bytes, 10737418240B, 12345678901 ns, 1234567890123 samples",
        "the port number: 50600, turn 0012, 05:00:00 INFO",
        "PJSIP/trunk-00000012, 1732770000.123, 0.00012345678",
        "/a%20b/10%25 of 2048%20KiB",
        "2025-2026, 555-012, 5555-0123, x555-0123, 555-0123x, 1.555-0123",
    ],
)
def test_what_is_no_number_of_a_caller_stays(line: str) -> None:
    assert mask_numbers(line) == line


def test_numbers_of_every_country_are_masked() -> None:
    """In the forms in which they travel, as libphonenumber writes them, and in addresses."""
    formats = phonenumbers.PhoneNumberFormat
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if number is None:
            continue
        whole = [
            phonenumbers.format_number(number, form)
            for form in (formats.E164, formats.INTERNATIONAL, formats.RFC3966)
        ]
        national = phonenumbers.format_number(number, formats.NATIONAL)
        digits = phonenumbers.normalize_digits_only(national)
        if digits.startswith("0") and len(digits) >= 9:
            whole += [national, digits] if len(digits) >= 10 else [national] if national != digits else []
        for text in whole:
            for written in (text, quote(text, safe=""), quote_plus(text), quote(quote(text, safe=""))):
                masked = mask_numbers(f"call of {written}, {written}")
                assert masked.count("*") >= 2 * min(3, len(digits) - 4), (region, written, masked)


def test_times_ids_and_addresses_stay() -> None:
    dice = random.Random(5)
    for _ in range(600):
        moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=dice.uniform(0, 4e8))
        told = (
            moment.isoformat(),
            moment.isoformat(" ", "seconds"),
            f"{moment:%d.%m.%Y %H:%M}",
            f"{moment:%d/%m/%Y %H:%M:%S}",
            f"{moment:%m-%d-%Y}",
            f"{moment:%H:%M:%S},{dice.randrange(1000):03}",
            f"{moment:%a, %d %b %Y %H:%M:%S} +0000",
            f"[{moment:%d/%b/%Y:%H:%M:%S} +0000]",
            str(uuid.UUID(int=dice.getrandbits(128), version=4)),
            f"CA{dice.getrandbits(128):032x}",
            f"{dice.getrandbits(128):032x}",
            f"trace {dice.getrandbits(64):016x}",
            ".".join(str(dice.randrange(256)) for _ in range(4)) + f":{dice.randrange(1024, 65536)}",
            f"{dice.uniform(0, 1e4):.3f} ms",
            f"{dice.randrange(10**9)}",
            f"{dice.randrange(10**12)} bytes",
            f"#{dice.getrandbits(24):06x}",
        )
        for text in told:
            if text.removeprefix("trace ").isdigit() and len(text) > 9:
                continue  # an id all of whose digits are decimal
            for line in (text, f"a {text} b", f"({text})", f"id={text};"):
                assert mask_numbers(line) == line
