"""Callers as Twilio brings them: a signed webhook, then the stream that its TwiML asks for."""

import asyncio
import secrets
import time
from collections.abc import Sequence
from urllib.parse import urlencode

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from bench.media_load import LoadCaller
from telephony.simulator.dial import MEDIA_PATH, VOICE_PATH, Account, read_twiml
from telephony.simulator.errors import CannotCall
from telephony.simulator.twilio_side import StreamIdentity

_ANSWER_S = 15.0
"""Twilio waits no longer for a webhook."""


class TwilioDouble:
    """Brings calls to the server on `port` of this machine, signed with `auth_token`."""

    def __init__(self, port: int, auth_token: str) -> None:
        self.port = port
        self._auth_token = auth_token
        self._handshake = {
            "X-Twilio-Signature": RequestValidator(auth_token).compute_signature(
                f"ws://127.0.0.1:{port}{MEDIA_PATH}", {}
            )
        }

    async def ring(self, number: int) -> tuple[Account, str]:
        """Post the voice webhook; the TwiML. Raises `CannotCall` for any other answer, and for none."""
        sid = secrets.token_hex(16)
        caller = f"+1202555{number % 10_000:04d}"
        account = Account("AC" + "0" * 32, f"CA{sid}", f"MZ{sid}", caller, "+12025550100", self._auth_token)
        return account, await self.post(VOICE_PATH, account)

    async def post(self, path: str, account: Account) -> str:
        form = account.form("ringing")
        signature = account.signature(f"http://127.0.0.1:{self.port}{path}", form)
        body = urlencode(form).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in signature.items())
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(f"{head}\r\n".encode() + body)
                    answer = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise CannotCall(f"{path}: {type(error).__name__}: {error}") from None
        status, _, rest = answer.partition(b"\r\n")
        if b" 200 " not in status:
            raise CannotCall(f"{path} answered {status.decode('latin-1')!r}")
        return rest.partition(b"\r\n\r\n")[2].decode()

    async def connect(
        self, number: int, account: Account, twiml: str, line: Sequence[bytes], cycle: int, offset: int = 0
    ) -> LoadCaller:
        """The stream of a call. Raises `CannotCall` where the TwiML connects none, `ConnectionError`."""
        stream = read_twiml(twiml, f"http://127.0.0.1:{self.port}{VOICE_PATH}")
        identity = StreamIdentity(
            account.account_sid, account.call_sid, account.stream_sid, dict(stream.parameters)
        )
        caller = LoadCaller(number, line, cycle, offset, identity=identity, headers=self._handshake)
        await caller.open(self.port)
        return caller


async def heard(caller: LoadCaller, limit_s: float) -> bool:
    """Whether the agent is heard within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not caller.packets_in and not caller.closed and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    return caller.packets_in > 0
