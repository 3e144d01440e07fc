"""Simulated calls in real time, over a real WebSocket."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from telephony.simulator.balancer import Balancer
from telephony.simulator.caller import Caller
from telephony.simulator.dial import Account, Stream, ask_for_stream, webhook_of
from telephony.simulator.outcome import Transcripts, conclude
from telephony.simulator.report import (
    ReadTranscript,
    Report,
    ServerTurn,
    read_plain_transcript,
    read_server_turns,
)
from telephony.simulator.scenario import Scenario
from telephony.simulator.streams import SimulatedCall
from telephony.simulator.twilio_side import StreamIdentity, TwilioSide
from telephony.simulator.voices import Speeches, render

TEST_ACCOUNT_SID = "AC" + "0" * 32
_TRANSCRIPT_PATIENCE_S = 5.0
_POLL_S = 0.05


async def simulate(
    scenario: Scenario,
    *,
    url: str,
    auth_token: str | None = None,
    account_sid: str = TEST_ACCOUNT_SID,
    recording_dir: Path | str | None = None,
    calls_dir: Path | str | None = None,
    read_transcript: ReadTranscript = read_plain_transcript,
    transcripts: Transcripts | None = None,
    speeches: Speeches | None = None,
    front_ends: Sequence[str] = (),
    during: Callable[[Caller], Awaitable[None]] | None = None,
) -> Report:
    """Call `url` and play `scenario`, in real time. May be cancelled: the call then ends by a lost
    connection.

    `url` is a stream (`ws://HOST/twilio/media`) or a voice webhook (`http://HOST/twilio/voice`), which is
    asked for the stream as Twilio asks it, signed with `auth_token`. `calls_dir` is where a server on this
    machine leaves `<call id>/transcript.json`, or what `read_transcript` reads from that folder;
    `transcripts(call_id)` tells the server's turns otherwise. `speeches` are those of the caller's lines, by
    number of the step, that are not to be synthesised. `front_ends` are the servers behind `url`, by their
    own base URLs: each connection goes to the next of them in turn, past those that refuse. `during(caller)`
    runs beside the call, and is cancelled at its end.

    When the server of a webhook's call closes the stream, or is lost, the call goes on as its TwiML says: on
    another stream, if that is what stands there.

    Raises `CannotCall` when no stream comes about and `VoiceUnavailable` when a line cannot be spoken. What
    goes wrong later is in the report.
    """
    account = Account(
        account_sid=account_sid,
        call_sid="CA" + secrets.token_hex(16),
        stream_sid="MZ" + secrets.token_hex(16),
        caller=scenario.caller,
        called=scenario.called,
        auth_token=auth_token,
        balancer=Balancer(front_ends),
    )
    webhook = webhook_of(url, signed=auth_token is not None)
    spoken = await asyncio.to_thread(render, scenario, speeches)
    if webhook is None:
        stream = Stream(url, {"caller": scenario.caller, "called": scenario.called})
    else:
        stream = await ask_for_stream(webhook, account)
    identity = StreamIdentity(account_sid, account.call_sid, account.stream_sid, stream.parameters)
    caller = Caller(scenario, spoken, TwilioSide(identity), outlives_streams=webhook is not None)
    call = SimulatedCall(caller, webhook, account)
    beside = None if during is None else asyncio.ensure_future(during(caller))
    try:
        after_twiml = await call.hold(stream)
    finally:
        if beside is not None:
            beside.cancel()
    if beside is not None and beside.done() and not beside.cancelled():
        beside.result()
    violations = [*stream.violations, *call.violations]
    account_of_server = None
    if calls_dir is not None:
        account_of_server = await _server_turns(Path(calls_dir) / account.call_sid, read_transcript)
    return await asyncio.to_thread(
        conclude,
        caller,
        recording_dir=recording_dir,
        transcripts=transcripts if calls_dir is None else lambda call_id: account_of_server,
        after_twiml=after_twiml,
        violations=violations,
    )


async def _server_turns(folder: Path, read: ReadTranscript) -> Sequence[ServerTurn] | None:
    """The server's account once it has written the end of the call, which may be after we have left."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _TRANSCRIPT_PATIENCE_S
    while await asyncio.to_thread(folder.is_dir):
        found = await asyncio.to_thread(read_server_turns, folder, read)
        if (found is not None and found.complete) or loop.time() >= deadline:
            return found.turns if found is not None else None
        await asyncio.sleep(_POLL_S)
    return None
