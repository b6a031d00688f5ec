"""`GET /v1/hosts/{host}` and `GET /v1/rollouts/{id}/hosts`: one host whole, and all of a rollout in columns."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    DispatchAck,
    ProbeMode,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.host_pages import (
    HOST_MAP,
    HOST_WHOLE,
    HostMap,
    HostRecordPage,
    HostWhole,
    MapWave,
    MomentKind,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from tests.engines.releases import Layout
from tests.support.served_control_plane import CLOCK, READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio
R1 = RolloutId("stable@r1")
TAIL = "error: unit nginx.service failed <img src=x onerror=alert(1)>\n" * 100


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A control plane with a release in force: web-01 is dispatched, the others wait."""
    async with site_with(tmp_path) as made:
        await made.publish(layout=Layout(closure="shared"))
        yield made


async def tell(site: Site, hostname: str, *facts: AgentEvent) -> None:
    envelopes = tuple(AgentEventEnvelope(hostname, R1, fact) for fact in facts)
    outcome = await site.service.take_events(hostname, envelopes)
    assert outcome.accepted == len(facts)


async def whole(site: Site, hostname: str) -> HostWhole:
    path = paths.host_path(hostname, "")
    answer = await site.operate("GET", path, name="bob", key=READER_KEY)
    assert answer.status_code == 200, answer.text
    return HOST_WHOLE.decode(answer.content)


async def record(site: Site, hostname: str) -> HostRecordPage:
    (page,) = (await whole(site, hostname)).records
    return page


async def host_map(site: Site, query: str = "") -> HostMap:
    path = paths.rollout_path(R1, f"/hosts{query}")
    answer = await site.operate("GET", path, name="bob", key=READER_KEY)
    assert answer.status_code == 200, answer.text
    return HOST_MAP.decode(answer.content)


async def test_a_host_that_waits_has_every_gate_with_what_frees_it(site: Site) -> None:
    await site.operate("POST", "/v1/channels/stable/pause", b'{"reason": "smells odd"}')

    page = await record(site, "web-02")

    held, wave = page.gates
    assert (held.gate, wave.gate) == (Gate.OPERATOR_HOLD, Gate.WAVE_PROMOTION)
    assert held.frees == "Every hold on it is lifted or ends."
    assert held.since is not None
    assert wave.frees == "The wave before is done, and the guards of its own let it begin."
    assert page.headline.startswith("web-02 is Pending since ")
    assert (page.runs, page.should_run, page.wave) == (None, "shared", 1)


async def test_a_host_that_has_not_switched_shows_no_end_of_a_soak(site: Site) -> None:
    """Its record has the earliest end since the dispatch, but it does not soak yet."""
    await tell(site, "web-01", DispatchAck("old", CLOCK.now(), 1))

    page = await record(site, "web-01")

    assert [moment.kind for moment in page.moments] == [
        MomentKind.DISPATCHED,
        MomentKind.ACKNOWLEDGED,
    ]


async def test_a_host_that_runs_shows_its_times_and_probes(site: Site) -> None:
    now = CLOCK.now()
    await tell(
        site,
        "web-01",
        DispatchAck("old", now, 1),
        ActivationStarted(now, "directory", 2),
        ActivationCompleted("shared", 0, now, 3),
        ProbeTopologyDeclared((ProbeTopologyEntry("nginx", "http", ProbeMode.ENFORCE),), now, 4),
    )

    page = await record(site, "web-01")

    assert (page.state, page.runs, page.ran_before) == (HostState.SOAKING, "shared", "old")
    assert [(probe.name, probe.kind, probe.status) for probe in page.probes] == [
        ("nginx", "http", None)
    ]
    times = {moment.kind: moment.at for moment in page.moments}
    assert times[MomentKind.SWITCHED] == now
    assert times[MomentKind.SOAK_ENDS] >= now + timedelta(minutes=5)
    assert [moment.at for moment in page.moments] == sorted(times.values())


async def test_a_host_that_failed_has_the_whole_tail_of_its_switch(site: Site) -> None:
    """Lists cut it; here it is what the host sent, to be escaped by whoever shows it."""
    now = CLOCK.now()
    await tell(site, "web-01", DispatchAck("old", now, 1), ActivationStarted(now, "directory", 2))
    await tell(site, "web-01", ActivationFailed(1, TAIL, now, 3))

    page = await record(site, "web-01")

    assert page.failure is not None
    assert (page.failure.text, page.failure.exit_code) == (
        "the switch failed with exit code 1",
        1,
    )
    assert page.failure.stderr_tail == TAIL
    assert page.rows[0].seq > page.rows[-1].seq
    assert {row.host for row in page.rows} == {"web-01"}


async def test_a_host_says_in_lines_what_explain_says_as_data(site: Site) -> None:
    shown = await whole(site, "web-02")
    answer = await site.operate("GET", paths.host_path("web-02", "/explain"))

    assert (
        shown.explained.rollouts[0].gates[0].reason
        == (answer.json()["rollouts"][0]["gates"][0]["reason"])
    )
    assert any("wave 1 waits for wave 0" in line for line in shown.lines)
    assert shown.head == site.service.feed.head


async def test_a_host_that_is_unknown_is_answered_with_the_name_probably_meant(site: Site) -> None:
    answer = await site.operate("GET", paths.host_path("wev-02", ""))

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:nixfleet:problem:host-unknown")
    assert "web-02" in answer.json()["detail"]


async def test_a_map_has_all_hosts_in_columns_of_one_order(site: Site) -> None:
    now = CLOCK.now()
    await tell(site, "web-01", DispatchAck("old", now, 1))
    await site.operate(
        "POST", f"/v1/rollouts/{R1}/excuse", b'{"reason": "broken", "hosts": ["web-03"]}'
    )

    shown = await host_map(site)

    assert shown.names == ("web-01", "web-02", "web-03")
    assert shown.waves == (MapWave(1, 0), MapWave(2, 1))
    assert [shown.state_names[int(digit)] for digit in shown.states] == [
        "Activating",
        "Pending",
        "Pending",
    ]
    assert [shown.standing_names[int(digit)] for digit in shown.standings] == [
        "counted",
        "counted",
        "excused",
    ]


async def test_the_names_of_a_map_are_sent_once(site: Site) -> None:
    """Until a host joins or leaves."""
    first = await host_map(site)
    again = await host_map(site, f"?members={first.members}")
    await site.publish(layout=Layout(waves=(("web-01",), ("web-02", "web-04")), closure="shared"))
    changed = await host_map(site, f"?members={first.members}")

    assert (again.names, again.states) == (None, first.states)
    assert changed.names == ("web-01", "web-02", "web-04")


async def test_a_map_of_an_unknown_rollout_is_answered_with_the_one_probably_meant(
    site: Site,
) -> None:
    answer = await site.operate("GET", "/v1/rollouts/stabel@r1/hosts")

    assert answer.status_code == 404
    assert "stable@r1" in answer.json()["detail"]
