"""Log entries in words: the sentences that a small fleet's log does not happen to have."""

from datetime import UTC, datetime

import pytest

from nixfleet_control_plane.history.narration import actor_of, told
from nixfleet_control_plane.messages.inputs import ClearRollout, ResumeScope
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Commanded,
    FactReported,
    Line,
    Planned,
    Returned,
    RolloutMoved,
)
from nixfleet_proto.agent_event import (
    ActivationDeferred,
    ActivationFailed,
    AgentEvent,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyDeclared,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.fact_words import short
from nixfleet_state_machine.planner.action import Gate, WithdrawDispatch
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from nixfleet_state_machine.planner.pace.minute import SlotsReturned
from nixfleet_state_machine.rollout.event import (
    OperatorClearance,
    RetentionExpired,
    SuccessorOpened,
)

AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")


def _reported(fact: AgentEvent) -> FactReported:
    return FactReported("web-01", R1, fact, None)


@pytest.mark.parametrize(
    ("entry", "actor", "sentence"),
    [
        (
            _reported(ActivationFailed(4, "switch failed at verify\n", AT, 3)),
            "web-01",
            "failed to switch (exit code 4): switch failed at verify",
        ),
        (
            _reported(ActivationDeferred("systemd", AT, 3)),
            "web-01",
            "will switch at its next reboot: systemd cannot be switched live",
        ),
        (
            _reported(RollbackComplete("new", 1, AT, 9)),
            "web-01",
            "failed to roll back (exit code 1); runs new",
        ),
        (_reported(ProbeTopologyDeclared((), AT, 4)), "web-01", "declares its probes: none"),
        (
            _reported(ProbeResult("up", ProbeMode.OBSERVE, ProbeStatus.FAIL, AT, seq=5)),
            "web-01",
            "fails probe up (observe): no reason given",
        ),
        (
            Planned(WithdrawDispatch("web-01", R1, Gate.QUARANTINE, "it is quarantined")),
            "planner",
            "withdraws the dispatch of web-01 (quarantine): it is quarantined",
        ),
        (
            Returned(SlotsReturned("tags:web", AT, 1, AT)),
            "planner",
            "1 slot is free again: a minute is over (tags:web)",
        ),
        (
            Returned(SlotsReturned("tags:web", AT, 5, AT)),
            "planner",
            "5 slots are free again: a minute is over (tags:web)",
        ),
        (RolloutMoved(SuccessorOpened(R1, R2, AT)), "rollout", "is superseded by stable@r2"),
        (
            RolloutMoved(RetentionExpired(R1, AT)),
            "rollout",
            "pruned: its retention has expired",
        ),
        (
            RolloutMoved(OperatorClearance(R1, "ada", "known", frozenset({"b", "a"}), AT)),
            "rollout",
            "cleared by ada, excusing a, b: known",
        ),
        (
            Commanded(ResumeScope(ChannelScope("stable"), "ada", "done")),
            "ada",
            "resumes stable: done",
        ),
        (Commanded(ClearRollout(R1, "ada", "known")), "ada", "clears stable@r1: known"),
        (
            ArtefactTaken("fleet.resolved.json#0123456789", None, "{}", "00", "abcdef0123"),
            "verifier",
            "accepts fleet.resolved.json#01234567, signed by key abcdef01",
        ),
        (
            ArtefactRefused("rollouts/stable@r1.json", "too old"),
            "verifier",
            "refuses rollouts/stable@r1.json: too old",
        ),
    ],
    ids=lambda it: type(it).__name__ if not isinstance(it, str) else "",
)
def test_entry_is_told_as_a_sentence_about_its_actor(
    entry: Line, actor: str, sentence: str
) -> None:
    """Each entry has somebody behind it, and a sentence that goes on from that name."""
    assert (actor_of(entry), told(entry)) == (actor, sentence)


@pytest.mark.parametrize(
    ("closure", "shown"), [("0123456789abcdef-web-1.2", "01234567-web-1.2"), ("plain", "plain")]
)
def test_closures_are_shortened_by_their_hash(closure: str, shown: str) -> None:
    """A hash is cut to what people read; the name, dashes and all, is kept."""
    assert short(closure) == shown
