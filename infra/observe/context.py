"""Which call the running code works for: for logs.

A task inherits it from the one that made it, and `asyncio.to_thread` takes it along; work that is handed to a
thread in another way is wrapped in `carried`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(slots=True)
class CallContext:
    call_id: str
    trace_id: str = ""
    """32 hex digits, once a trace of the call has begun."""


_current: ContextVar[CallContext | None] = ContextVar("maya_call", default=None)


@contextmanager
def in_call(call_id: str) -> Iterator[CallContext]:
    """What runs inside, and every task that is made inside, works for this call."""
    context = CallContext(call_id)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def current_call() -> CallContext | None:
    return _current.get()


def carried(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`work`, to be run in another thread for the call that is current here."""
    context = copy_context()

    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return context.run(work, *args, **kwargs)

    return run
