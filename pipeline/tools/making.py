"""From what a persona says of its tools to the tools themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pipeline.tools.built_in import built_in_tool
from pipeline.tools.http import http_tool
from pipeline.tools.python import load_python_tools
from pipeline.tools.settings import BuiltIn, ToolSettings, TransferSettings
from pipeline.tools.tool import Tool, ToolError
from pipeline.tools.toolbox import Toolbox


def tools_of(
    settings: ToolSettings,
    folder: Path | None,
    *,
    transfer: TransferSettings,
    sequences: Mapping[str, str],
    menu: Sequence[str],
    timezone: str,
    goodbye: str,
) -> Toolbox:
    """Runs the Python file in `folder`. What the keys of a `menu` do is there for them, whether or not the
    language model may do it too. Raises `ToolError`."""

    def built_in(name: BuiltIn) -> Tool:
        return built_in_tool(
            name,
            targets=transfer.targets,
            announce=transfer.announce,
            sequences=sequences,
            timezone=timezone,
            goodbye=goodbye,
        )

    python: tuple[Tool, ...] = ()
    if settings.python:
        if folder is None:
            raise ToolError(f"{settings.python}: a persona that was not read from a file has no folder")
        python = load_python_tools(folder / settings.python, timeout_s=settings.timeout_s)
    tools = (*map(built_in, settings.built_in), *map(http_tool, settings.http), *python)
    chosen = {action.partition(":")[0] for action in menu}
    only_keys = sorted(chosen - set(settings.built_in))
    return Toolbox(tools, unlisted=[built_in(cast(BuiltIn, name)) for name in only_keys])
