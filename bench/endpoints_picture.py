"""The curves of `bench.endpoints` as a picture: dead air over the share of turns that are cut off."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_COLOURS = ("#8e9aaf", "#d9822b", "#5b8e7d", "#8a6fb0", "#bc5090", "#e0b34c")
_SHIPPED_COLOUR = "#1f6f8b"
_SIZE_IN = (9.0, 5.2)
_DPI = 100
_MOST_CUT_OFF = 0.7
_MOST_DEAD_AIR_S = 2.6


class Point(NamedTuple):
    cut_off: float
    """Share of the turns with pauses inside."""
    dead_air_s: float
    """Mean over all turns."""


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, from few cut-offs to many."""
    best: list[Point] = []
    for point in sorted(points):
        if not best or point.dead_air_s < best[-1].dead_air_s:
            best.append(point)
    return best


def draw(
    path: Path,
    curves: Mapping[str, Sequence[Point]],
    points: Mapping[str, tuple[float, float]],
    marks: Mapping[str, tuple[float, float]],
    *,
    tolerated: float,
    title: str,
) -> None:
    """A png at `path`. `curves` are every setting of each policy, of which the best are joined; `points` are
    policies with one setting, `marks` settings of the shipped one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_SIZE_IN)
    others = iter(_COLOURS)
    for name, settings in curves.items():
        shipped = "(shipped)" in name
        best = frontier(settings)
        axes.step(
            [100 * point.cut_off for point in best],
            [point.dead_air_s for point in best],
            where="post",
            label=name,
            color=_SHIPPED_COLOUR if shipped else next(others),
            linewidth=2.6 if shipped else 1.4,
            zorder=3 if shipped else 2,
        )
    for (name, (cut_off, dead_air_s)), marker in zip(points.items(), ("o", "X"), strict=False):
        axes.plot(
            100 * cut_off,
            dead_air_s,
            marker,
            color="#222222",
            markersize=9,
            label=name,
            linestyle="",
            zorder=4,
        )
    for name, (cut_off, dead_air_s) in marks.items():
        axes.plot(100 * cut_off, dead_air_s, ".", color=_SHIPPED_COLOUR, markersize=9, zorder=4)
        axes.annotate(
            name,
            (100 * cut_off, dead_air_s),
            xytext=(-4, -15),
            textcoords="offset points",
            fontsize=8,
            color=_SHIPPED_COLOUR,
        )
    axes.axvline(
        100 * tolerated, color="#c62828", linewidth=1, linestyle=":", label=f"{tolerated:.0%} cut off"
    )
    axes.set_xlim(0, 100 * _MOST_CUT_OFF)
    axes.set_ylim(0, _MOST_DEAD_AIR_S)
    axes.set_xlabel("turns with pauses inside that are cut off, %")
    axes.set_ylabel("mean dead air after the end of a turn, s")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI)
    pyplot.close(figure)
