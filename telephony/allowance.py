"""How often somebody may do something: a bucket that fills at a steady rate. The clock is an argument."""


class Allowance:
    """`burst` at once, `per_s` in the long run. `now` is seconds on any clock that does not run backwards."""

    def __init__(self, per_s: float, burst: int, now: float) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._left = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether there was one left; it is then gone."""
        self._fill(now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def wait_s(self, now: float) -> float:
        """Seconds until there is one again; 0 when there is one."""
        self._fill(now)
        return max(0.0, (1.0 - self._left) / self._per_s)

    def full(self, now: float) -> bool:
        """Whether it stands as if nothing had ever been taken."""
        self._fill(now)
        return self._left >= self._burst

    def _fill(self, now: float) -> None:
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = max(self._at, now)
