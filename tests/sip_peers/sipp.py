"""sipp with our scenarios.

A scenario stands in `sipp/NAME.xml` and is put together from the parts in `sipp/parts`: `@invite@` is the
content of `parts/invite.xml`, which may name further parts.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from telephony.sip.server import SipServer
from tests.sip_peers.programs import HERE, Program, filled, free_port, running

LIMIT_S: Final = 20
_FOLDER: Final = HERE / "sipp"


class Sipp:
    """A running one. `received` and `sent` hold its messages so far, in order."""

    def __init__(self, program: Program, messages: Path, port: int) -> None:
        self.port = port
        self._program = program
        self._messages = messages

    async def succeeds(self, within_s: float = LIMIT_S + 5) -> None:
        """Every call went as its scenario says."""
        status = await self._program.finished(within_s)
        assert status == 0, f"sipp ended with {status}: a call did not go as its scenario says"

    def messages(self) -> list[str]:
        """As sipp traced them: a line such as "UDP message received [402] bytes :", then the message."""
        text = self._messages.read_text("utf-8", "replace") if self._messages.exists() else ""
        return text.split("-" * 47)[1:]

    def received(self, start: str) -> list[str]:
        """Messages of ours that begin with `start`, retransmissions too."""
        return [
            message.split("\n\n", 1)[1]
            for message in self.messages()
            if "message received" in message and message.split("\n\n", 1)[1].startswith(start)
        ]


def scenario(name: str, **parts: str) -> str:
    """The XML of `name`, its parts in place; `parts` replace those in the folder."""
    text = (_FOLDER / f"{name}.xml").read_text()
    known = {path.stem: path.read_text().strip() for path in (_FOLDER / "parts").iterdir()} | parts
    for _ in range(4):
        text = filled(text, **known)
    return text


@contextlib.asynccontextmanager
async def calling(
    name: str,
    port: int,
    folder: Path,
    *options: str,
    calls: int = 1,
    echo: bool = True,
    own: int = 0,
    **parts: str,
) -> AsyncIterator[Sipp]:
    """sipp, which plays `name` at its port `own` (0: any). It sends back all audio that it hears unless
    `echo` is off. `port` 0: it waits to be called."""
    file, messages = folder / f"{name}.xml", folder / f"{name}.messages"
    file.write_text(scenario(name, **parts))
    own, media = own or free_port(), free_port(together=4)
    arguments = [
        *("-sf", str(file), "-i", "127.0.0.1", "-p", str(own), "-mi", "127.0.0.1", "-mp", str(media)),
        *("-m", str(calls), "-r", str(calls), "-l", str(calls), "-nostdin", "-timeout", f"{LIMIT_S}s"),
        *("-timeout_error", "-trace_err", "-error_file", str(folder / f"{name}.errors")),
        *("-trace_msg", "-message_file", str(messages)),
        *(("-rtp_echo",) if echo else ()),
        *options,
        *((f"127.0.0.1:{port}",) if port else ()),
    ]
    logs = {"sipp's errors": folder / f"{name}.errors", "sipp's messages": messages}
    async with running("sipp", *arguments, folder=folder, logs=logs) as program:
        yield Sipp(program, messages, own)


async def play(name: str, server: SipServer, folder: Path, *options: str, **settings: object) -> Sipp:
    """Let sipp call `server` by the scenario `name`, to its end."""
    async with calling(name, server.port, folder, *options, **settings) as sipp:  # type: ignore[arg-type]
        await sipp.succeeds()
        return sipp
