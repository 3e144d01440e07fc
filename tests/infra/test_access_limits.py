import pytest

from infra.access.limits import Buckets, counted_as


def test_each_name_has_its_own_allowance() -> None:
    buckets = Buckets(2.0, 3)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a", 0.0) == pytest.approx(0.5)
    assert buckets.take("b", 0.0) == 0.0
    assert buckets.take("a", 0.5) == 0.0
    assert buckets.take("a", 0.5) > 0


def test_looking_takes_nothing() -> None:
    buckets = Buckets(1.0, 1)
    assert buckets.wait_s("a", 0.0) == 0.0
    assert len(buckets) == 0
    buckets.take("a", 0.0)
    assert buckets.wait_s("a", 0.25) == buckets.wait_s("a", 0.25) == pytest.approx(0.75)


def test_a_million_names_take_no_more_room_and_a_busy_one_is_kept() -> None:
    buckets = Buckets(0.001, 1, most=100)
    for number in range(5_000):
        buckets.take(str(number), 0.0)
        buckets.take("busy", 0.0)
    assert len(buckets) == 100
    assert buckets.take("busy", 0.0) > 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1%eth0", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unix:@", "unix:@"),
        ("", ""),
    ],
)
def test_an_ipv6_site_counts_as_one(address: str, counted: str) -> None:
    assert counted_as(address) == counted
