"""One use of one tool: a time-out, a result of bounded size, and whatever it raises made into a sentence."""

import asyncio
import dataclasses
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from pipeline.tools.desk import Desk
from pipeline.tools.tool import LONGEST_RESULT, Ends, ToolFailed
from pipeline.tools.toolbox import ToolCall

log = logging.getLogger(__name__)

Outcome = Literal["done", "failed", "timed out", "cancelled", "refused"]

FAILED = "It did not work."
TIMED_OUT = "There was no answer in time."
INTERRUPTED = "The caller interrupted before there was a result."
UNDER_WAY = "It is under way, and there is no result yet."
NOTHING_READABLE = "The result cannot be read."
CUT = " ... (cut)"

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff]")
_BINARY_SHARE = 0.1
"""So much of a text being control characters makes it no text."""


@dataclass(slots=True)
class Run:
    """One use of a tool, or the refusal to use one. Changes until `outcome` is known."""

    name: str
    call: str
    """As it goes into the history."""
    begun_s: float
    arguments: Mapping[str, object] = field(default_factory=dict)
    cancellable: bool = True
    outcome: Outcome | None = None
    seconds: float = 0.0
    result: str = ""
    """What the language model is shown: text that strangers may have written."""
    ends: bool = False
    """Nothing more is to be said after it."""
    detail: str = ""
    """What went wrong, for the operator."""

    @property
    def shown(self) -> str:
        """The result, or why there is none, if the reply were over now."""
        if self.outcome is not None:
            return self.result
        return INTERRUPTED if self.cancellable else UNDER_WAY


class Running:
    """A run under way. `task` ends when its outcome is known; cancelling it cancels the tool."""

    def __init__(
        self, call: ToolCall, run: Run, desk: Desk, clock: Callable[[], float], told: Callable[[Run], None]
    ) -> None:
        self._call = call
        self.tool = call.tool
        self.run = run
        self._desk = desk
        self._clock = clock
        self._told = told
        self.task = asyncio.create_task(self._watch(), name=f"tool-{run.name}")

    async def _watch(self) -> None:
        work = asyncio.ensure_future(self.tool.use(self._call.arguments, self._desk))
        try:
            done, _ = await asyncio.wait({work}, timeout=self.tool.timeout_s)
            if done:
                self._ended(work)
            else:
                self._end("timed out", TIMED_OUT)
        except asyncio.CancelledError:
            self._end("cancelled", INTERRUPTED)
            raise
        finally:
            # Not waited for: a tool that will not be cancelled must not hold up the call.
            if not work.done():
                work.cancel()
            work.add_done_callback(_forget)

    def _ended(self, work: "asyncio.Future[object]") -> None:
        try:
            result = work.result()
        except ToolFailed as failed:
            self._end("failed", failed.reason)
        except (Exception, asyncio.CancelledError) as error:
            # For the operator alone: its text may hold anything.
            self.run.detail = f"{type(error).__name__}: {error}"[:LONGEST_RESULT]
            log.warning("the tool %s failed: %s", self.run.name, error, exc_info=error)
            self._end("failed", FAILED)
        else:
            self.run.ends = isinstance(result, Ends)
            text = "" if self.run.ends else readable(result)
            self._end("failed" if text == NOTHING_READABLE else "done", text)

    def _end(self, outcome: Outcome, result: str) -> None:
        self.run.outcome, self.run.result = outcome, result
        self.run.seconds = self._clock() - self.run.begun_s
        self._told(self.run)


def _forget(work: "asyncio.Future[object]") -> None:
    """Take the outcome of what nobody waits for any more."""
    if not work.cancelled():
        work.exception()


def readable(result: object, limit: int = LONGEST_RESULT) -> str:
    """A tool's result as text of at most `limit` characters for the language model."""
    if result is None:
        return "Done."
    if isinstance(result, bytes | bytearray | memoryview):
        return NOTHING_READABLE
    text = result if isinstance(result, str) else _as_json(result)
    # What is cut anyway need not be looked at.
    head = text[: 4 * limit]
    if len(_CONTROL.findall(head)) > _BINARY_SHARE * len(head):
        return NOTHING_READABLE
    clean = _CONTROL.sub(" ", head).strip()
    if not clean:
        return "Done."
    return clean if len(clean) <= limit else clean[: limit - len(CUT)] + CUT


def _as_json(result: object) -> str:
    try:
        return json.dumps(result, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError):
        return FAILED


def _plain(value: Any) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)
