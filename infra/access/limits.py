"""Allowances for each of many, of which the ones that asked longest ago are forgotten. The clock is an
argument."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Final

from telephony.allowance import Allowance

_MOST: Final = 10_000
_IPV6_SITE: Final = 64
"""Bits of an address that one customer has for itself as a rule: it must not count as 2**64 addresses."""


class Buckets:
    """`burst` at once and `per_s` in the long run, for each name."""

    def __init__(self, per_s: float, burst: int, *, most: int = _MOST) -> None:
        self._per_s = per_s
        self._burst = burst
        self._most = most
        self._of: OrderedDict[str, Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def take(self, name: str, now: float) -> float:
        """0 when `name` had one left; it is then gone. Else the seconds until there is one."""
        own = self._own(name, now)
        return 0.0 if own.take(now) else own.wait_s(now)

    def wait_s(self, name: str, now: float) -> float:
        """The same, but nothing is taken."""
        own = self._of.get(name)
        return 0.0 if own is None else own.wait_s(now)

    def _own(self, name: str, now: float) -> Allowance:
        own = self._of.get(name)
        if own is None:
            own = self._of[name] = Allowance(self._per_s, self._burst, now)
            if len(self._of) > self._most:
                self._of.popitem(last=False)
        else:
            self._of.move_to_end(name)
        return own


def counted_as(address: str) -> str:
    """Under which name an address is counted: IPv6 by its site."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    site = int(parsed) >> (128 - _IPV6_SITE) << (128 - _IPV6_SITE)
    return f"{IPv6Address(site)}/{_IPV6_SITE}"
