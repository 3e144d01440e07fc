"""The way of the agent's voice from its `Playout` to the line: in order, and without a wait where the line
takes it so (`pipeline.line.PlaysAtOnce`)."""

from collections.abc import Sequence

from pipeline.line import Line, LineClosed, PlaysAtOnce
from pipeline.playout import Playout, SendAudio, SendMark
from pipeline.sound_told import SoundTold


class Sender:
    """For one call. A line that closes is left to whoever reads it, and learns why."""

    def __init__(self, line: Line, playout: Playout, told: SoundTold) -> None:
        self._line = line
        self._playout = playout
        self._told = told
        self._at_once = line if isinstance(line, PlaysAtOnce) else None
        self._unsent: Sequence[SendAudio | SendMark] = ()

    def send_at_once(self, now: float) -> bool:
        """What is due. False: not all of it could go, and `send_owed` has to follow before anything else."""
        self._unsent = self._sent_at_once(self._due(now))
        return not self._unsent

    @property
    def owes(self) -> bool:
        """Something was due, and could not go at once."""
        return bool(self._unsent)

    async def send_owed(self) -> None:
        """What could not go at once."""
        unsent, self._unsent = self._unsent, ()
        await self._send(unsent)

    async def send(self, now: float) -> None:
        """What is due; nothing is owed."""
        if due := self._due(now):
            await self._send(self._sent_at_once(due))

    async def clear(self) -> None:
        """Of what was sent, the caller is to hear nothing more."""
        try:
            await self._line.clear()
        except LineClosed:
            return

    def _due(self, now: float) -> Sequence[SendAudio | SendMark]:
        if self._playout.started_s is None:
            self._told.paused()
        due = self._playout.due(now)
        if due:
            self._told.sent(now)
        return due

    def _sent_at_once(self, due: Sequence[SendAudio | SendMark]) -> Sequence[SendAudio | SendMark]:
        """What could not go."""
        line = self._at_once
        if line is None:
            return due
        for place, action in enumerate(due):
            sent = line.play_now(action.pcm) if isinstance(action, SendAudio) else line.mark_now(action.name)
            if not sent:
                return due[place:]
        return ()

    async def _send(self, due: Sequence[SendAudio | SendMark]) -> None:
        try:
            for action in due:
                if isinstance(action, SendAudio):
                    await self._line.send_audio(action.pcm)
                else:
                    await self._line.send_mark(action.name)
        except LineClosed:
            return
