"""`maya bench flood`: whether live calls keep time while strangers flood the web server with garbage.

The server of `maya bench media` (`bench.media_server`) holds `calls` calls on one core, first quiet, then
while a process of its own sends it `per_s` requests a second: paths that do not exist, wrong keys, garbage
for JSON, bodies that are announced as 10 MB, webhooks without signature, from addresses that a proxy says are
many or one.

Figures, each `_quiet` and `_flooded`, from the same run:
- `gap_p50_ms`, `gap_p99_ms`, `gap_max_ms`: between the arrivals of consecutive packets of a call, 20 ms apart
  when they are sent.
- `starved`, `lost`: packets that came too late to be played; calls that broke off.
- `requests_per_s`: those that were answered; `turned_away`: the part of them answered 429 or 413 before the
  application was asked.
- `cpu_ms_per_request`: the server's processor time beyond the quiet run's, per request.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

from bench.media import _gaps, _run_loop, _server, _urgent
from bench.report import Report
from telephony.simulator.errors import CannotCall

_CONNECTIONS = 16
_PIECE_S = 0.02
_SETTLE_S = 4.0


def run(
    *,
    calls: int = 20,
    seconds: float = 15.0,
    per_s: int = 1_000,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """A minute. Raises `CannotCall` where there are no two cores, or when the server does not start."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise CannotCall("bench flood needs Linux and two cores: one for the server, one for the others")
    figures: dict[str, object] = {"calls": calls}
    busy: dict[str, float] = {}
    answered: dict[str, int] = {}
    for how in ("quiet", "flooded"):
        with _server("--core", str(cores[0])) as (process, port), _urgent():
            os.sched_setaffinity(0, {cores[1]})
            flood = _Flood(port, per_s) if how == "flooded" else None
            try:
                found = _run_loop(_gaps(process.pid, port, calls, seconds))
            finally:
                os.sched_setaffinity(0, cores)
                if flood is not None:
                    answered = flood.stop()
        busy[how] = float(str(found["server_cores_busy"]))
        figures |= {f"{name}_{how}": figure for name, figure in found.items()}
        progress(str(found))
    served = sum(count for status, count in answered.items() if status.isdecimal())
    rate = served / max(1, answered.get("ms", 1)) * 1_000
    away = answered.get("429", 0) + answered.get("413", 0)
    figures |= {
        "requests_per_s": round(rate, 1),
        "turned_away": round(away / max(1, served), 4),
        "cpu_ms_per_request": round((busy["flooded"] - busy["quiet"]) / max(1.0, rate) * 1_000, 3),
    }
    return Report(
        figures=figures,
        notes=[f"answers: {dict(sorted(answered.items()))}", "the flood comes over 16 connections"],
    )


class _Flood:
    """A process that floods until it is stopped."""

    def __init__(self, port: int, per_s: int) -> None:
        command = [sys.executable, "-m", "bench.flood", str(port), str(per_s)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def stop(self) -> dict[str, int]:
        """Answers by status; `ms` is how long it lasted."""
        try:
            said, _ = self._process.communicate(b"\n", timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
        counted: dict[str, int] = json.loads(said or b"{}")
        return counted


def garbage(number: int, chosen: random.Random) -> bytes:
    """One request, of the `number`th kind."""
    forwarded = f"198.51.100.{chosen.randrange(256)}" if number % 2 else "203.0.113.9"
    head = f"Host: maya.example.com\r\nX-Forwarded-For: {forwarded}\r\n"
    wrong = "Authorization: Bearer maya_" + chosen.randbytes(24).hex() + "\r\n"
    body = chosen.randbytes(200).replace(b"\n", b"x")
    with_body = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    kinds = (
        f"GET /{chosen.randbytes(8).hex()} HTTP/1.1\r\n{head}\r\n".encode(),
        f"GET /calls/{chosen.randbytes(8).hex()} HTTP/1.1\r\n{head}{wrong}\r\n".encode(),
        f"GET /whoami HTTP/1.1\r\n{head}Cookie: maya_session={chosen.randbytes(40).hex()}\r\n\r\n".encode(),
        f"POST /calls HTTP/1.1\r\n{head}{wrong}".encode() + with_body,
        f"POST /login HTTP/1.1\r\n{head}".encode() + with_body,
        f"POST /twilio/voice HTTP/1.1\r\n{head}".encode() + with_body,
        f"DELETE /calls/..%2f..%2fetc HTTP/1.1\r\n{head}{wrong}\r\n".encode(),
        f"POST /calls HTTP/1.1\r\n{head}Content-Length: 10485760\r\n\r\n".encode() + body,
    )
    return kinds[number % len(kinds)]


async def _connection(port: int, per_s: float, counts: Counter[str], seed: int) -> None:
    """Sends at a steady pace whatever comes back; opens another connection where the server closes one."""
    loop = asyncio.get_running_loop()
    chosen = random.Random(seed)
    due, number = loop.time() + seed * _PIECE_S, seed
    writer: asyncio.StreamWriter | None = None
    try:
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += 1 / per_s
            number += 1
            if writer is None or writer.is_closing():
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(garbage(number, chosen))
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                await reader.readexactly(length)
                counts[head[9:12].decode()] += 1
                if b"connection: close" in head.lower():
                    writer.close()
            except (OSError, asyncio.IncompleteReadError, ValueError):
                counts["broken off"] += 1
                writer.close()
    finally:
        if writer is not None:
            writer.close()


async def _flood(port: int, per_s: int) -> dict[str, int]:
    counts: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    began = loop.time()
    sending = [
        asyncio.create_task(_connection(port, per_s / _CONNECTIONS, counts, number))
        for number in range(_CONNECTIONS)
    ]
    await loop.run_in_executor(None, sys.stdin.readline)
    for each in sending:
        each.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    counts["ms"] = round((loop.time() - began) * 1_000)
    return dict(counts)


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_flood(int(sys.argv[1]), int(sys.argv[2])))))
