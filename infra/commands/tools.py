"""`maya tools`: what an agent can do besides talking."""

import json
from pathlib import Path
from typing import Annotated

import typer

from infra.commands.options import Json

app = typer.Typer(help="The agent's tools: check.", no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def tools() -> None:
    """Keeps `check` a command of its own while it is the only one."""


@app.command()
def check(
    persona: Annotated[Path, typer.Argument(help="A persona's TOML file.", show_default=False)],
    grammar: Annotated[bool, typer.Option("--grammar", help="Print the grammar of their calls.")] = False,
    as_json: Json = False,
) -> None:
    """Load a persona's tools as a call would, and show what the language model is told of them. Its Python
    file is run; nothing is used, and nobody is called.

    Example: [bold]maya tools check clinic.toml[/bold]
    """
    from pipeline.persona import load_persona

    who = load_persona(persona)
    box = who.toolbox
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "tools": [
                        {
                            "name": tool.name,
                            "description": tool.description,
                            "arguments": tool.arguments.model_json_schema().get("properties", {}),
                            "side_effects": tool.side_effects,
                            "cancellable": tool.cancellable,
                            "timeout_s": tool.timeout_s,
                        }
                        for tool in box.tools
                    ],
                    "targets": dict(who.transfer.targets),
                    "keys": dict(who.keys.allowed),
                    "menu": dict(who.keys.menu),
                    "grammar": box.grammar,
                },
                indent=1,
                ensure_ascii=False,
            )
        )
        return
    if grammar:
        typer.echo(box.grammar, nl=False)
        return
    if not box:
        typer.echo(f"{who.name} has no tools.")
    for tool in box.tools:
        kind = "changes something" if tool.side_effects else "only looks something up"
        stops = "stops" if tool.cancellable else "goes on"
        typer.echo(f"{tool.name}: {tool.description}")
        typer.echo(f"   {kind}; {tool.timeout_s:g} s at most; {stops} when the caller interrupts")
    for name, target in who.transfer.targets.items():
        typer.echo(f"transfer to {name}: {target}")
    for name, digits in who.keys.allowed.items():
        typer.echo(f"press {name}: {digits}")
    for digit, action in who.keys.menu.items():
        typer.echo(f"key {digit} of the caller: {action}")
    if box:
        typer.echo(f"\nThe language model is told:\n{box.instructions}")
