"""Types of log lines: those after which a person must act, and no other, say so."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.line_types import type_of
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    FactReported,
    IdentityForked,
    Line,
    RolloutMoved,
)
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_proto.agent_event import (
    AgentEvent,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.line_types import LineType, Severity
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.event import (
    GuardsOpened,
    HostStateChanged,
    RolloutTerminal,
    WaveAdvanced,
    WaveBroken,
)
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.story import STEPS, Story

AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
R1 = RolloutId("stable@r1")


def _reported(fact: AgentEvent) -> FactReported:
    return FactReported("web-01", R1, fact, None)


def _became(state: HostState, *, is_tolerant: bool = False) -> RolloutMoved:
    return RolloutMoved(
        HostStateChanged(R1, "web-01", HostState.SOAKING, state, AT, is_tolerant=is_tolerant)
    )


@pytest.mark.parametrize(
    ("line", "name", "severity"),
    [
        (_became(HostState.FAILED), "rollout.halted", "act"),
        (_became(HostState.REVERTED), "rollout.halted", "act"),
        (_became(HostState.FAILED, is_tolerant=True), "rollout.moved", "routine"),
        (_became(HostState.CONVERGED), "rollout.moved", "routine"),
        (RolloutMoved(WaveBroken(R1, 1, 3, 2, 0, AT)), "rollout.halted", "act"),
        (RolloutMoved(WaveAdvanced(R1, 0, 1, AT)), "wave.began", "notice"),
        (RolloutMoved(WaveAdvanced(R1, 1, 1, AT)), "rollout.moved", "routine"),
        (RolloutMoved(RolloutTerminal(R1, AT)), "rollout.complete", "notice"),
        (RolloutMoved(GuardsOpened(R1, 1, AT)), "wave.approval-needed", "act"),
        (RolloutMoved(GuardsOpened(R1, 2, AT)), "wave.guards-asked", "notice"),
        (_reported(RollbackComplete("old", 0, AT, 9)), "host.rolled-back", "warning"),
        (_reported(RollbackComplete("new", 1, AT, 9)), "host.rollback-failed", "act"),
        (
            _reported(ProbeResult("up", ProbeMode.ENFORCE, ProbeStatus.FAIL, AT, seq=5)),
            "host.probe-failed",
            "routine",
        ),
        (
            _reported(ProbeResult("up", ProbeMode.ENFORCE, ProbeStatus.PASS, AT, seq=5)),
            "host.probe-passed",
            "routine",
        ),
        (ArtefactRefused("rollouts/stable@r1.json", "too old"), "artefact.refused", "act"),
        (IdentityForked("web-01", R1, "two machines"), "host.forked", "act"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_a_line_has_a_type_and_the_type_says_whether_a_person_must_act(
    line: Line, name: str, severity: str
) -> None:
    """A failure where none is allowed halts the rollout; a wave needs an approval only while it waits for one."""
    found = type_of(line, lambda rollout_id, wave: (rollout_id, wave) == (R1, 1))
    assert (found, found.severity) == (name, severity)


def test_severities_are_in_order() -> None:
    """A reader who asks for one gets those above it too."""
    ranked = sorted(Severity, key=lambda it: it.rank)
    assert list(map(str, ranked)) == ["routine", "notice", "warning", "act"]
    assert {it.severity for it in LineType} == set(Severity)


def test_a_line_says_that_a_rollout_is_halted_exactly_if_it_halted_it(tmp_path: Path) -> None:
    """In the log of a fleet that has lived: what the replay finds, told from each line alone."""
    with closing(Story.within(tmp_path)) as story:
        for step in STEPS:
            step(story)
        path = story.control_plane.database
    halted = {RolloutState.FAILED.value, RolloutState.REVERTED.value}
    found, said = list[int](), list[int]()
    with closing(open_for_reading(path)) as connection:
        for applied in Follower(connection).catch_up():
            line = applied.logged
            moved = isinstance(line.entry, RolloutMoved)
            if moved and applied.state_after in halted and applied.is_move:
                found.append(line.seq)
            if type_of(line.entry, lambda *_: False) is LineType.ROLLOUT_HALTED:
                said.append(line.seq)

    assert said == found
    assert len(found) >= 2
