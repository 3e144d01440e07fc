"""Real promtool and a real Prometheus: metrics, alert rules and the dashboard's queries fit together."""

import asyncio
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from infra.calls import open_calls
from infra.loading import load
from infra.local_server import LocalServer, free_port
from infra.observe.observatory import open_observatory
from infra.settings import Settings
from infra.ways_in import open_ways_in
from telephony.simulator import Scenario, simulate
from tests.infra.observe_kit import a_conversation
from tests.infra.served import served
from tests.infra.test_observe_calls import observed

ROOT = Path(__file__).parents[2]
RULES = ROOT / "infra/prometheus/rules.yml"
DASHBOARD = ROOT / "infra/grafana/dashboards/maya.json"
NAME = re.compile(r"\b((?:maya|process|python)_[a-z0-9_]+)\b")
CALL = a_conversation()
ON_A_CLUSTER = {"maya_cluster_replicas", "maya_cluster_moved_calls_total"}
"""Only where models run on Ray Serve; `infra.observe.observatory` names them the same."""

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="infra/setup/programs.sh")


def promtool(*arguments: object, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> list[tuple[str, str]]:
    """(panel, PromQL) with the dashboard's variables filled in."""
    document = dashboard()
    found = [
        (panel["title"], target["expr"])
        for panel in document["panels"]
        for target in panel.get("targets", ())
    ]
    found += [(a["name"], a["expr"]) for a in document["annotations"]["list"]]
    return [
        (title, expr.replace("$__rate_interval", "1m").replace("$instance", ".*")) for title, expr in found
    ]


def rule_exprs() -> list[str]:
    import yaml

    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def sample_names(text: str) -> set[str]:
    """Every name that a query may use, of families without samples too."""
    names: set[str] = set()
    for family in text_string_to_metric_families(text):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
            family.type, ("",)
        )
        names |= {family.name + suffix for suffix in suffixes}
        names |= {sample.name for sample in family.samples}
    return names


_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


async def exposition(tmp_path: Path) -> str:
    """What a server says that has all ways in, a recorder and a store, and has held a call."""
    settings = Settings.model_validate(
        {
            "insecure": True,
            "profile": "scripted",
            "calls_dir": tmp_path / "calls",
            "sip": {"host": "127.0.0.1", "port": 0, "allow": ["127.0.0.1/32"]},
        }
    )
    async with (
        open_calls(settings, lambda: load(settings)) as calls,
        open_ways_in(settings, calls) as ways,
        open_observatory(settings, calls, ways) as observatory,
    ):
        assert observatory is not None
        observed(CALL, observatory.metrics)
        observatory.house.look()
        return generate_latest(observatory.metrics.registry).decode()


async def test_every_metric_that_is_asked_for_is_there(tmp_path: Path) -> None:
    names = sample_names(await exposition(tmp_path)) | ON_A_CLUSTER
    asked = [*queries(), *(("rules.yml", expr) for expr in rule_exprs())]
    missing = {(where, name) for where, expr in asked for name in NAME.findall(expr) if name not in names}
    assert not missing
    assert len(asked) > 60


async def test_every_metric_is_described(tmp_path: Path) -> None:
    described = (ROOT / "docs/metrics.md").read_text()
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(await exposition(tmp_path))
        if family.name.startswith("maya_") and not family.name.endswith("_created")
    }
    assert not {name for name in names | ON_A_CLUSTER if f"`{name}" not in described}


def test_the_observatory_names_the_clusters_metrics_so() -> None:
    source = (ROOT / "infra/observe/observatory.py").read_text()
    assert all(f'"{name.removesuffix("_total")}"' in source for name in ON_A_CLUSTER)


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    document = dashboard()
    assert document["schemaVersion"] == 39  # Grafana 10.4 and 11; later ones migrate it by themselves
    assert document["uid"]
    assert {variable["name"] for variable in document["templating"]["list"]} == {"datasource", "instance"}
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(refs) == len(set(refs))
        assert panel["fieldConfig"]["defaults"] is not None
    provisioned = (ROOT / "infra/grafana/provisioning/datasources/prometheus.yaml").read_text()
    assert "uid: maya-prometheus" in provisioned


@needs_promtool
def test_the_rules_are_right_and_wake_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("test", "rules", ROOT / "infra/prometheus/rules_test.yml")
    promtool("check", "config", "--syntax-only", ROOT / "infra/prometheus/prometheus.yml")


@needs_promtool
def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expr} for n, (_, expr) in enumerate(queries())]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


@needs_promtool
async def test_the_metrics_are_as_prometheus_wants_them(tmp_path: Path) -> None:
    ours = "\n".join(
        line for line in (await exposition(tmp_path)).splitlines() if re.match(r"(# \w+ )?maya_", line)
    )
    # promtool's linter dislikes the time of creation that the client library adds; Prometheus does not.
    ours = "\n".join(line for line in ours.splitlines() if "_created" not in line) + "\n"
    promtool("check", "metrics", stdin=ours)


@contextmanager
def prometheus(tmp_path: Path, server: LocalServer) -> Iterator[str]:
    """A Prometheus that scrapes `server`, with our rules; yields its address."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": "maya", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}
        ],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps(config))
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def ask(address: str, path: str, **fields: str) -> Any:
    """The answer's `data`, once there is one."""
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.realtime
@needs_promtool
async def test_a_real_prometheus_scrapes_a_real_server(tmp_path: Path) -> None:
    scenario = Scenario.model_validate(
        {
            "name": "test",
            "voice": "ruth",
            "network": {"delay_ms": 5},
            "steps": ["listen", {"say": "Hello there."}, "listen", "hang_up"],
        }
    )
    with served(tmp_path) as server, prometheus(tmp_path, server) as address:
        await asyncio.to_thread(ask, address, "targets")
        report = await simulate(
            scenario, url=server.stream_url, auth_token=server.auth_token, calls_dir=tmp_path / "calls"
        )
        await asyncio.sleep(3)
        (target,) = (await asyncio.to_thread(ask, address, "targets"))["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")

        async def value(query: str) -> float:
            result = (await asyncio.to_thread(ask, address, "query", query=query))["result"]
            return float(result[0]["value"][1]) if result else float("nan")

        assert await value('maya_calls_started_total{way="twilio"}') == 1
        assert await value("maya_turns_total") == 1
        gap_ms = report.turns[0].gap_ms
        assert gap_ms is not None
        told_ms = 1000 * await value("sum(maya_answer_gap_seconds_sum)")
        assert told_ms == pytest.approx(gap_ms, abs=150)
        assert (
            await value("histogram_quantile(0.5, sum by (le) (maya_agent_packet_gap_seconds_bucket))") < 0.03
        )
        for title, query in queries():
            answer = await asyncio.to_thread(ask, address, "query", query=query)
            assert answer["resultType"] == "vector", title
        groups = (await asyncio.to_thread(ask, address, "rules"))["groups"]
        states = {rule["name"]: (rule["health"], rule.get("state")) for g in groups for rule in g["rules"]}
        assert {health for health, _ in states.values()} == {"ok"}
        assert "firing" not in {state for _, state in states.values()}
