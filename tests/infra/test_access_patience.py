from infra.access.patience import Waiting


def test_of_too_many_the_oldest_goes() -> None:
    waiting: Waiting[str] = Waiting(3, 10)
    assert [waiting.came(name, name) for name in "abc"] == [None] * 3
    assert waiting.came("d", "d") == "a"
    assert waiting.came("e", "e") == "b"
    assert len(waiting) == 3


def test_one_address_has_its_share_and_no_more() -> None:
    waiting: Waiting[int] = Waiting(100, 2)
    assert [waiting.came(number, "x") for number in range(4)] == [None, None, 2, 3]
    assert waiting.came(10, "y") is None
    waiting.left(0)
    assert waiting.came(11, "x") is None


def test_who_asked_or_left_takes_no_room() -> None:
    waiting: Waiting[int] = Waiting(10, 1)
    for number in range(1_000):
        assert waiting.came(number, "x") is None
        waiting.left(number)
        waiting.left(number)
    assert len(waiting) == 0
    assert not waiting._counts


def test_behind_a_proxy_all_may_come() -> None:
    waiting: Waiting[int] = Waiting(100, 1)
    assert [waiting.came(number, "") for number in range(50)] == [None] * 50
