"""The front-end's Ray driver, in a process of its own: `python -m infra.cluster.bridge`.

Ray ends a driver's process when its head has been gone for a minute, and no call must end with it. So this
process talks with Ray, and the front-end with this process: JSON lines. On standard input the first line
says what is wanted (`Wanted`), further ones what to count: `["hold", role, replica, ticket]`. On standard
output: `{"replicas": [...]}` whenever they change, `{"head": true}` whenever that does, `{"error": "..."}`
before it gives up. It ends when its input does, and takes the Ray that it has started along.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

from infra.cluster.sessions import end_session

HEAD_EVERY_S = 0.5
HEAD_ANSWERS_S = 1.5
END_S = 3.0
_AGAIN_S = 0.5
_MOST_HOLDS = 5_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """`address`: of Ray's head, or `auto`. `folder` is for the Ray that is started."""

    address: str
    cluster: dict[str, Any]
    models: dict[str, Any]
    folder: str = ""
    start_s: float = 600.0
    logical_cpus: int = 8


@dataclass(slots=True)
class Bridge:
    wanted: Wanted
    out: TextIO
    _handles: dict[str, Any] = field(default_factory=dict)
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    _running: dict[str, Sequence[str]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _told: str = ""

    async def run(self, lines: "asyncio.Queue[str | None]") -> None:
        """Until the input ends."""
        from infra.cluster import running

        loop = asyncio.get_running_loop()

        def told(role: str, replicas: Sequence[str]) -> None:
            loop.call_soon_threadsafe(self._serving, role, replicas)

        running.watch(told)
        head = await asyncio.to_thread(self._connect)
        self._spawn(self._watch_head(head))
        await self._deploy()
        while (line := await lines.get()) is not None:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                _, role, replica, ticket = json.loads(line)
                if len(self._tasks) < _MOST_HOLDS:
                    self._spawn(self._hold(role, replica, ticket))

    def say(self, news: Mapping[str, Any]) -> None:
        self.out.write(json.dumps(news) + "\n")
        self.out.flush()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Ray

    def _connect(self) -> str:
        """Start Ray or join it. Returns the head's address."""
        import ray
        from ray import serve

        wanted = self.wanted
        if wanted.address == "auto":
            ray.init(
                address="local",
                num_cpus=wanted.logical_cpus,
                include_dashboard=False,
                object_store_memory=int(wanted.cluster.get("object_store_mb", 100)) * 2**20,
                namespace="maya",
                log_to_driver=False,
                _temp_dir=wanted.folder,
                _node_ip_address="127.0.0.1",
            )
        else:
            ray.init(address=wanted.address, namespace="maya", log_to_driver=False)
        # Nothing of Serve listens for HTTP.
        serve.start(http_options={"location": "NoServer"})
        return str(ray.get_runtime_context().gcs_address)

    async def _deploy(self) -> None:
        """Have the applications run, ours where there are none. Raises `RuntimeError`, `TimeoutError`."""
        from ray import serve

        from infra.cluster.application import application_name, build
        from infra.cluster.roles import ROLES

        known = (await asyncio.to_thread(serve.status)).applications
        targets = []
        for role in ROLES:
            if application_name(role) not in known:
                args = {"role": role, "cluster": self.wanted.cluster, "models": self.wanted.models}
                targets.append(serve.RunTarget(build(args), name=application_name(role), route_prefix=None))
        if targets:
            await asyncio.to_thread(serve.run_many, targets, wait_for_applications_running=False)
        async with asyncio.timeout(self.wanted.start_s):
            for role in ROLES:
                await self._until_running(application_name(role))
                handle = serve.get_app_handle(application_name(role))
                self._handles[role] = handle
                # The first request opens the handle's router, which then tells who runs.
                self._learn(await handle.where.remote(replica=""))

    async def _until_running(self, name: str) -> None:
        from ray import serve

        while True:
            application = (await asyncio.to_thread(serve.status)).applications.get(name)
            status = str(application.status.value) if application is not None else "NOT_STARTED"
            if status == "RUNNING":
                return
            if application is not None and status in ("DEPLOY_FAILED", "UNHEALTHY"):
                reasons = [d.message for d in application.deployments.values() if d.message]
                raise RuntimeError(f"{name} does not run: {' '.join([application.message, *reasons])}")
            await asyncio.sleep(0.2)

    async def _watch_head(self, address: str) -> None:
        """Whether Ray's head takes connections; asking Ray itself would hang while it does not."""
        host, _, port = address.rpartition(":")
        last: bool | None = None
        while True:
            try:
                async with asyncio.timeout(HEAD_ANSWERS_S):
                    _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                there = True
            except (OSError, TimeoutError):
                there = False
            if there != last:
                last = there
                self.say({"head": there})
            await asyncio.sleep(HEAD_EVERY_S)

    # Who runs

    def _serving(self, name: str, replicas: Sequence[str]) -> None:
        self._running[name] = replicas
        for replica in replicas:
            if replica not in self._known:
                self._known[replica] = {}
                self._spawn(self._ask(name, replica))
        self._tell()

    async def _ask(self, role: str, replica: str) -> None:
        while replica in self._running.get(role, ()):
            handle = self._handles.get(role)
            if handle is not None:
                try:
                    async with asyncio.timeout(5.0):
                        self._learn(await handle.where.remote(replica=replica))
                    return
                except Exception as error:
                    print(f"{role} replica {replica} does not say where it is: {error}", file=sys.stderr)
            await asyncio.sleep(_AGAIN_S)
        self._known.pop(replica, None)

    def _learn(self, where: dict[str, Any]) -> None:
        self._known[where["replica"]] = where
        self._tell()

    def _tell(self) -> None:
        running = {replica for replicas in self._running.values() for replica in replicas}
        there = [where for replica, where in sorted(self._known.items()) if where and replica in running]
        for replica in [
            replica for replica, where in self._known.items() if where and replica not in running
        ]:
            del self._known[replica]
        told = json.dumps(there)
        if told != self._told:
            self._told = told
            self.say({"replicas": there})

    async def _hold(self, role: str, replica: str, ticket: str) -> None:
        handle = self._handles.get(role)
        if handle is None or replica not in self._running.get(role, ()):
            return
        with contextlib.suppress(Exception):  # it died: nothing is left to count
            await handle.hold.remote(replica=replica, ticket=ticket)


def main() -> None:
    # Whatever prints to standard output, Ray's start among it, must not stand between our lines.
    out = cast(TextIO, os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    wanted = Wanted(**json.loads(sys.stdin.readline()))
    bridge = Bridge(wanted, out)

    async def run() -> None:
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def read() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)
            # Even while Ray is being started nobody waits for us any more.
            if not bridge._handles:
                os._exit(0)

        threading.Thread(target=read, name="stdin", daemon=True).start()
        await bridge.run(lines)

    runner = asyncio.Runner()
    try:
        runner.run(run())
    except Exception as error:
        bridge.say({"error": f"{type(error).__name__}: {error}"})
    # Threads of Serve's may wait for Ray for ever: neither they nor the loop are waited for.
    hurry = threading.Timer(END_S, os._exit, (0,))
    hurry.daemon = True
    hurry.start()
    import ray

    ray.shutdown()
    if wanted.address == "auto" and os.getsid(0) == os.getpid():
        end_session(os.getpid())
    os._exit(0)


if __name__ == "__main__":
    main()
