"""Python functions as tools: the name, the type hints and the docstring say all there is to say.

    def order_status(number: str) -> str:
        \"\"\"Look up where an order is.

        Args:
            number: The order's number, such as 4711.
        \"\"\"

Plain functions run in a thread of their own, `async` ones on the call's event loop.
"""

import ast
import asyncio
import importlib.util
import inspect
import re
import threading
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from pipeline.tools.desk import Desk
from pipeline.tools.tool import Example, Tool, ToolError, ToolFailed, Use

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "_maya_tool"
MOST_THREADS = 32
"""Functions that run, or hang, at the same time in this process. A thread cannot be stopped from outside, so
beyond this number further ones are refused."""

_ARGUMENT = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def tool(
    *,
    side_effects: bool = True,
    cancellable: bool = True,
    timeout_s: float | None = None,
    filler: bool = True,
    example: Example | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Say more about a function of a persona's tools.py than its signature does; see the fields of `Tool`.

    `side_effects=False`: it only looks something up, and may be used again in the same turn.
    """
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ToolError(f"@tool has no option {unknown[0]!r}: there are {', '.join(sorted(_OPTIONS))}")

    def mark(marked: Callable[..., Any]) -> Callable[..., Any]:
        setattr(marked, _MARK, options)
        return marked

    return mark if function is None else mark(function)


_OPTIONS = {"side_effects", "cancellable", "timeout_s", "filler", "example"}


def load_python_tools(path: Path, *, timeout_s: float) -> tuple[Tool, ...]:
    """Run the file and take its public functions, in their order. Blocks for as long as the file does. Raises
    `ToolError` naming the file and, where it can, the line."""
    module = _run(path)
    found = [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    ]
    if not found:
        raise ToolError(f"{path}: no public function in it, so there is no tool")
    tools = []
    for function in found:
        try:
            tools.append(python_tool(function, timeout_s=timeout_s))
        except ToolError as error:
            raise ToolError(f"{path}:{function.__code__.co_firstlineno}: {error}") from error
    return tuple(tools)


def _run(path: Path) -> ModuleType:
    try:
        ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ToolError(f"{path}:{line or 1}: not valid Python: {error}") from error
    # Not in sys.modules: each persona's tools are its own, and a file that has changed is read again.
    spec = importlib.util.spec_from_file_location(f"persona_tools_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ToolError(f"{path}: no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ToolError(f"{path}: {type(error).__name__} while it was loaded: {error}") from error
    return module


def python_tool(function: Callable[..., Any], *, timeout_s: float = 10.0) -> Tool:
    """One function as a tool. Raises `ToolError` when its signature or docstring does not say enough."""
    name = function.__name__
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ToolError(f"{name}: a tool's name has small letters, digits and _, at most 40")
    summary, described = _docstring(inspect.getdoc(function) or "")
    if not summary:
        raise ToolError(f"{name}: it needs a docstring: by its first line the language model decides")
    options: Mapping[str, Any] = getattr(function, _MARK, {})
    return Tool(
        name=name,
        description=summary,
        arguments=_arguments(function, described),
        use=_use_of(function),
        side_effects=options.get("side_effects", True),
        cancellable=options.get("cancellable", True),
        timeout_s=options.get("timeout_s") or timeout_s,
        filler=options.get("filler", True),
        example=options.get("example"),
    )


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph in one line, and what stands under "Args:" of each argument."""
    summary = " ".join(text.partition("\n\n")[0].split())
    described: dict[str, str] = {}
    _, _, section = text.partition("\nArgs:\n")
    last = ""
    for line in section.splitlines():
        if line and not line.startswith((" ", "\t")):
            break
        found = _ARGUMENT.match(line.strip())
        if found is not None:
            last = found[1]
            described[last] = found[2].strip()
        elif last and line.strip():
            described[last] += " " + line.strip()
    return summary, described


def _arguments(function: Callable[..., Any], described: Mapping[str, str]) -> type[BaseModel]:
    name = function.__name__
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise ToolError(f"{name}: its type hints cannot be read: {error}") from error
    fields: dict[str, Any] = {}
    for argument in inspect.signature(function).parameters.values():
        if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD, argument.POSITIONAL_ONLY):
            raise ToolError(f"{name}: {argument}: only arguments that have a name each")
        if argument.name not in hints:
            raise ToolError(f"{name}: the argument {argument.name} needs a type hint")
        default = ... if argument.default is argument.empty else argument.default
        field = Field(default=default, description=described.get(argument.name) or None)
        fields[argument.name] = (hints[argument.name], field)
    try:
        made: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        made.model_json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise ToolError(f"{name}: no language model can fill in these arguments: {error}") from error
    return made


def _use_of(function: Callable[..., Any]) -> Use:
    async def use(arguments: BaseModel, desk: Desk) -> object:
        given = {name: getattr(arguments, name) for name in type(arguments).model_fields}
        if inspect.iscoroutinefunction(function):
            return await function(**given)
        return await in_thread(lambda: function(**given))

    return use


_running = threading.BoundedSemaphore(MOST_THREADS)


async def in_thread(work: Callable[[], object]) -> object:
    """`work()` on a daemon thread: one that hangs holds up nobody, not even the end of the process. When this
    is cancelled the thread runs on, and its result is dropped. Raises `ToolFailed` when too many hang."""
    if not _running.acquire(blocking=False):
        raise ToolFailed("It cannot be done now.")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[object] = loop.create_future()

    def tell(result: object, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def run() -> None:
        result: object = None
        error: BaseException | None = None
        try:
            result = work()
        except BaseException as raised:  # SystemExit too: it is the tool's failure, not the process's end
            plain = isinstance(raised, Exception) and not isinstance(raised, StopIteration)
            error = raised if plain else RuntimeError(type(raised).__name__)
        finally:
            _running.release()
        try:
            loop.call_soon_threadsafe(tell, result, error)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.

    threading.Thread(target=run, name="maya-tool", daemon=True).start()
    return await future
