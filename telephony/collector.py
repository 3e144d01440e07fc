"""Python's garbage collector against the 20 ms of a call.

A full collection looks through every container of the process: with the packages loaded, 80,000 of them and
more, which stops all calls for 50 ms. In `maya bench sip` the 99.9th percentile of packet gaps was 72 ms with
it and 25 ms without. What is loaded once lives as long as the process, and need not be looked through again.
Calls leave rings behind, which are to be found before they pile up, though not as often as Python looks by
itself, at every 700th new container.
"""

import gc
from typing import Final

YOUNG: Final = 2_000
"""New containers, less those that are gone, at which rings are looked for among them: a fifth of a
millisecond of work. What a call has made is in rings when it ends, and stays until the next full collection,
which comes at a hundred times as many: at 20,000, ten thousand short calls left 60 MiB to be used again."""


def spare_what_is_loaded() -> None:
    """Call it once everything that outlives calls is loaded and warm. Blocks for some tenths of a second: a
    last full collection, after which the collector leaves alone what is there now (`gc.freeze`), and looks
    through what comes less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
