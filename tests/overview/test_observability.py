"""The dashboard and the alert rules name the metrics that there are; and what the new gauges say."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main
from nixfleet_control_plane.http.app import make_app
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_control_plane.observability.catalogue import (
    MADE_BY_EVENTS,
    NAME,
    catalogue,
    definitions,
)
from nixfleet_control_plane.observability.dashboard import dashboard, expressions
from nixfleet_control_plane.observability.gauges import register_gauges
from nixfleet_control_plane.observability.overview_gauges import register_overview_gauges
from nixfleet_control_plane.observability.rules import RULES, Rule, rules_text
from nixfleet_control_plane.reading.sqlite_queries import SqliteQueries
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, Site, site_with

pytestmark = pytest.mark.anyio
SUFFIXES = ("_bucket", "_count", "_sum", "_created")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a release in force: web-01 is dispatched, the others wait."""
    async with site_with(tmp_path) as made:
        await made.publish(layout=Layout(closure="shared", max_in_flight=2))
        yield made


def exposed(site: Site) -> tuple[Metrics, dict[str, float]]:
    """What `/metrics` of a process answers, by sample."""
    metrics = Metrics()
    register_gauges(metrics, site.service, has_database_version=True)
    register_overview_gauges(metrics, site.service)
    queries = SqliteQueries(site.database)
    make_app(site.service, KeyRing, queries, CLOCK, metrics=metrics)
    lines = metrics.exposition().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return metrics, {name: float(value) for name, _, value in samples}


def base_name(sample: str) -> str:
    name = sample.partition("{")[0]
    return next((name.removesuffix(it) for it in SUFFIXES if name.endswith(it)), name)


async def test_the_catalogue_has_every_metric_of_a_control_plane_and_no_other(site: Site) -> None:
    _, samples = exposed(site)
    known = {each.name for each in await definitions()}

    assert {base_name(sample) for sample in samples} <= known
    made_later = {each.name for each in MADE_BY_EVENTS} | {"nixfleet_refused_requests_total"}
    assert known - {base_name(sample) for sample in samples} == made_later


def test_the_dashboard_has_a_panel_for_each_metric() -> None:
    printed = CliRunner().invoke(main, ["control-plane", "dashboard"], catch_exceptions=False)
    shown = orjson.loads(printed.stdout)
    panels = [panel for panel in shown["panels"] if panel["type"] == "timeseries"]

    assert shown == dashboard(catalogue())
    named = [panel["description"].partition(":")[0] for panel in panels]
    assert sorted(named) == [each.name for each in catalogue()]
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)


def test_every_alert_names_metrics_that_there_are() -> None:
    known = {each.name for each in catalogue()}
    for rule in RULES:
        assert set(NAME.findall(rule.expression)) <= known, rule
        assert NAME.findall(rule.expression)
    assert len({rule.name for rule in RULES}) == len(RULES)
    printed = CliRunner().invoke(main, ["control-plane", "rules"], catch_exceptions=False)
    assert printed.stdout == rules_text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")
def test_prometheus_reads_the_rules_and_the_questions_of_the_dashboard(tmp_path: Path) -> None:
    panels = tuple(
        Rule(f"Panel{number}", expression, 0, "ticket", "a panel", each.text)
        for number, each in enumerate(catalogue())
        for expression, _ in expressions(each)
    )
    for name, rules in (("rules.yml", RULES), ("panels.yml", panels)):
        file = tmp_path / name
        file.write_text(rules_text(rules))
        checked = subprocess.run(
            ["promtool", "check", "rules", "--lint=none", str(file)], capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_what_needs_a_person_and_who_waits_is_in_the_metrics(site: Site) -> None:
    _, before = exposed(site)
    await site.operate("POST", "/v1/channels/stable/pause", b'{"reason": "smells odd"}')
    _, after = exposed(site)

    held = 'nixfleet_needs_person{kind="hold"}'
    assert (before[held], after[held]) == (0, 1)
    waits = 'nixfleet_oldest_wait_seconds{gate="%s"}'
    assert before[waits % "operator-hold"] == 0
    assert after[waits % "operator-hold"] >= 0
    assert after[waits % "wave-promotion"] == 0
    assert before['nixfleet_slots{slots="taken"}'] == 1
    assert before['nixfleet_slots{slots="limit"}'] == 2
    assert after['nixfleet_slots{slots="taken"}'] == 0
    assert after["nixfleet_quarantines"] == 0
    assert after["nixfleet_next_edge_timestamp_seconds"] == 0


async def test_the_end_of_a_hold_is_the_next_edge(site: Site) -> None:
    until = datetime(2031, 5, 16, 12, tzinfo=UTC)
    body = orjson.dumps({"scope": "stable", "reason": "moving racks", "until": until.isoformat()})
    assert (await site.operate("POST", "/v1/holds", body)).status_code == 204

    _, samples = exposed(site)

    assert samples["nixfleet_next_edge_timestamp_seconds"] == until.timestamp()
