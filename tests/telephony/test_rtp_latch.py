from telephony.rtp.latch import PATIENCE_PACKETS, Latch

PHONE = ("198.51.100.7", 4000)
BEHIND_NAT = ("203.0.113.9", 61_000)
STRANGER = ("192.0.2.66", 5000)


def opened(remote: tuple[str, int] | None = PHONE) -> Latch:
    latch = Latch()
    latch.open(remote)
    return latch


def test_the_address_of_the_sdp_is_believed_at_once_and_nobody_else_after_it() -> None:
    latch = opened()
    assert latch.target == PHONE
    assert latch.accepts(PHONE)
    assert latch.latched == PHONE
    assert not any(latch.accepts(STRANGER) for _ in range(1000))
    assert not any(latch.accepts((PHONE[0], 4002)) for _ in range(1000))
    assert latch.target == PHONE


def test_a_phone_behind_nat_draws_our_audio_to_where_it_really_is() -> None:
    latch = opened(("192.168.1.5", 4000))
    heard = [latch.accepts(BEHIND_NAT) for _ in range(10)]
    assert heard == [False] * (PATIENCE_PACKETS - 1) + [True] * (11 - PATIENCE_PACKETS)
    assert latch.target == BEHIND_NAT
    assert not any(latch.accepts(STRANGER) for _ in range(1000))
    assert latch.target == BEHIND_NAT


def test_a_stranger_who_comes_first_loses_to_the_address_of_the_sdp() -> None:
    latch = opened()
    assert not any(latch.accepts(STRANGER) for _ in range(PATIENCE_PACKETS - 1))
    assert latch.accepts(PHONE)
    assert not any(latch.accepts(STRANGER) for _ in range(100))


def test_a_stranger_who_was_believed_loses_to_the_address_of_the_sdp_too() -> None:
    latch = opened()
    for _ in range(PATIENCE_PACKETS):
        latch.accepts(STRANGER)
    assert latch.target == STRANGER
    assert latch.accepts(PHONE)
    assert latch.target == PHONE
    assert not latch.accepts(STRANGER)


def test_two_strangers_do_not_pool_their_patience() -> None:
    latch = opened()
    for _ in range(PATIENCE_PACKETS - 1):
        assert not latch.accepts(STRANGER)
        assert not latch.accepts(BEHIND_NAT)
    assert latch.accepts(BEHIND_NAT)
    assert not latch.accepts(STRANGER)


def test_a_sweep_over_ports_neither_latches_nor_fills_the_memory() -> None:
    latch = opened()
    assert not any(latch.accepts((STRANGER[0], port)) for port in range(1024, 65_536))
    assert latch.accepts(PHONE)


def test_another_port_of_the_same_host_must_be_patient_and_gives_way_to_the_right_one() -> None:
    latch = opened()
    other = (PHONE[0], 4010)
    assert [latch.accepts(other) for _ in range(PATIENCE_PACKETS)][-1]
    assert latch.target == other
    assert latch.accepts(PHONE)
    assert not any(latch.accepts(other) for _ in range(100))


def test_a_new_offer_opens_it_again() -> None:
    latch = opened()
    latch.accepts(PHONE)
    elsewhere = ("198.51.100.99", 7000)
    latch.open(elsewhere, quiet=False)
    assert latch.target == elsewhere
    assert latch.accepts(elsewhere)
    assert not latch.accepts(PHONE)


def test_a_refresh_changes_nothing_while_the_caller_speaks() -> None:
    latch = opened()
    for _ in range(PATIENCE_PACKETS):
        latch.accepts(BEHIND_NAT)
    latch.open(PHONE, quiet=False)
    assert latch.accepts(BEHIND_NAT)
    assert not any(latch.accepts(STRANGER) for _ in range(100))


def test_behind_a_hold_the_phone_is_believed_at_once_or_replaced_by_a_patient_other() -> None:
    latch = opened()
    for _ in range(PATIENCE_PACKETS):
        latch.accepts(BEHIND_NAT)
    latch.open(PHONE, quiet=True)
    assert latch.target == BEHIND_NAT
    assert latch.accepts(BEHIND_NAT)
    assert not any(latch.accepts(STRANGER) for _ in range(100))
    # The NAT has forgotten the phone's port and given it another.
    latch.open(PHONE, quiet=True)
    moved = (BEHIND_NAT[0], BEHIND_NAT[1] + 1)
    assert [latch.accepts(moved) for _ in range(PATIENCE_PACKETS)].count(True) == 1
    assert latch.target == moved
    assert not latch.accepts(BEHIND_NAT)


def test_without_an_sdp_the_first_patient_source_is_the_caller() -> None:
    latch = opened(None)
    assert latch.target is None
    assert [latch.accepts(BEHIND_NAT) for _ in range(PATIENCE_PACKETS)][-1]
    assert latch.target == BEHIND_NAT
