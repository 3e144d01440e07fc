"""The `maya` command. Each command imports what it needs when it runs, so that `--help` is quick."""

import sys

import typer

from infra.commands import (
    bench,
    calls,
    demo,
    dial,
    doctor,
    finetune,
    forget,
    keys,
    models,
    recordings,
    say,
    serve,
    simulate,
    timeline,
    tools,
    twilio,
    voice,
)
from infra.errors import report

app = typer.Typer(
    name="maya",
    help="A telephone voice agent. Try it: [bold]maya demo[/bold]",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("simulate")(simulate.simulate)
app.command("demo")(demo.demo)
app.command("say")(say.say)
app.command("dial")(dial.dial)
app.add_typer(keys.app, name="keys")
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(voice.app, name="voice")
app.add_typer(twilio.app, name="twilio")
app.add_typer(tools.app, name="tools")
app.add_typer(finetune.app, name="finetune")
app.add_typer(bench.app, name="bench")
app.command("timeline")(timeline.timeline)
app.add_typer(recordings.app, name="recordings")
app.add_typer(calls.app, name="calls")
app.command("forget")(forget.forget)


def main() -> None:
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left, as `| head` does
        sys.exit(0)
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(report(error))
