"""Models made on this machine out of others."""

from collections.abc import Callable
from pathlib import Path

from models.fetching import PullFailed


def make(recipe: str, source: Path, target: Path) -> None:
    """Write `target` out of `source`. Blocks: requantising takes about 15 s for 1.5 billion weights.

    Raises `ModelError` when the recipe fails, `PullFailed` when its package is not installed.
    """
    try:
        RECIPES[recipe](source, target)
    except ImportError as error:
        raise PullFailed(
            f"Making {target.name} needs the package {error.name}. Run `pip install 'maya-voice[speech]'`."
        ) from error


def _requantiser(to: str) -> Callable[[Path, Path], None]:
    def requantise(source: Path, target: Path) -> None:
        from models.llama.quantize import quantize

        quantize(source, target, to=to)

    return requantise


RECIPES: dict[str, Callable[[Path, Path], None]] = {
    "q4_0": _requantiser("q4_0"),
    "q8_0": _requantiser("q8_0"),
}
