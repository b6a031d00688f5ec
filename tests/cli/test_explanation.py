"""The lines of `operator explain`: each thing that a host can wait for, and each reason to be in no rollout."""

from datetime import datetime, timedelta

import pytest
from attrs import evolve

from nixfleet_cli.shared.output import shown_time
from nixfleet_control_plane.overview.explanation import explanation_lines
from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline
from nixfleet_proto.steering.warrant import RecallStep
from nixfleet_runtime.http.listings import (
    ExplainedRollout,
    HoldingGate,
    HostExplained,
    LeftRollout,
    ListedRecall,
    StatusInRollout,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.host_status import HostDrift, Outside, StageDeadline, WaitsFor
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from tests.planner.builders import NOW

STABLE = RolloutId("stable@a1")
GATE = HoldingGate(Gate.WAVE_PROMOTION, "wave 1 waits for wave 0", "in wave 0, 0 of 1 are done")
LATER = NOW + timedelta(minutes=5)
RETRY, SKIP, EXCUSE = (f"{it} stable@a1 web-02" for it in ("retry", "skip", "excuse"))
SHOWN, SHOWN_LATER = shown_time(NOW), shown_time(LATER)
STATUS = StatusInRollout(
    RolloutState.ACTIVE,
    HostState.PENDING,
    Standing.COUNTED,
    attempt=1,
    attempts=1,
    last_wave=2,
    wave=1,
    since=NOW,
    waits_for=WaitsFor.NOTHING,
)


def _lines(
    status: StatusInRollout | None, gates: tuple[HoldingGate, ...] = (), at: datetime | None = None
) -> list[str]:
    """Return the lines about the rollout, without that on when the host was last heard."""
    rollout = ExplainedRollout(STABLE, gates, status)
    *lines, heard = explanation_lines(HostExplained("web-02", (rollout,), last_heard_at=at))
    assert "heard" in heard
    return lines


def test_a_host_is_shown_with_state_since_when_and_wave() -> None:
    """In this order; a standing and the attempt only where there is something to say."""
    plain = _lines(STATUS)[0]
    other = _lines(evolve(STATUS, standing=Standing.LATE, attempt=2, attempts=3, wave=None))[0]

    begin = f"stable@a1: web-02 is Pending since {SHOWN}"
    assert plain == f"{begin}, wave 1 of 0–2; the rollout is Active"
    assert other == f"{begin}, late, attempt 2 of 3, in no wave; the rollout is Active"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (STATUS, "nothing is planned for it in this rollout"),
        (evolve(STATUS, state=HostState.CONVERGED), "it is done"),
        (
            evolve(STATUS, state=HostState.FAILED, commands=(RETRY, EXCUSE)),
            f'it failed, and makes no further attempt by itself: "nixfleet operator {RETRY}" or '
            f'"nixfleet operator {EXCUSE}", or another release',
        ),
        (
            evolve(STATUS, state=HostState.FAILED),
            "it failed, and makes no further attempt by itself: it needs another release",
        ),
        (
            evolve(STATUS, state=HostState.REVERTED, attempts=2, commands=(EXCUSE,)),
            "it failed, and makes no further attempt by itself: "
            f'"nixfleet operator {EXCUSE}", or another release',
        ),
        (
            evolve(STATUS, state=HostState.REVERTED, commands=(EXCUSE,)),
            "it rolled back after attempt 1 of 1, the last that is signed: "
            f'"nixfleet operator {EXCUSE}", or another release',
        ),
        (
            evolve(STATUS, waits_for=WaitsFor.DISPATCH),
            "no gate holds it: it is dispatched next",
        ),
        (
            evolve(STATUS, waits_for=WaitsFor.ACKNOWLEDGEMENT),
            "its dispatch is queued: it waits for the host to acknowledge it",
        ),
        (evolve(STATUS, waits_for=WaitsFor.ACTIVATION), "it is activating"),
        (evolve(STATUS, waits_for=WaitsFor.REBOOT), "it waits for its reboot"),
        (
            evolve(STATUS, waits_for=WaitsFor.SOAK, soak_ends_at=LATER),
            f"it soaks until {SHOWN_LATER} or later, and then needs its enforce probes to pass",
        ),
        (evolve(STATUS, waits_for=WaitsFor.ROLLBACK), "it failed, and rolls back"),
        (
            evolve(STATUS, waits_for=WaitsFor.BACKOFF, retry_at=LATER),
            f"it failed, and backs off: it tries again at {SHOWN_LATER}",
        ),
        (
            evolve(STATUS, waits_for=WaitsFor.CONTACT),
            "nobody waits for it, as an operator or a deadline said: it is served once it is heard of",
        ),
    ],
)
def test_a_host_is_shown_with_what_it_waits_for(status: StatusInRollout, line: str) -> None:
    """One line for each thing."""
    assert _lines(status)[1:] == [f"  {line}"]


def test_every_gate_follows_with_its_detail() -> None:
    """A control plane of before sends the gates alone."""
    gate = "  wave-promotion: wave 1 waits for wave 0 (in wave 0, 0 of 1 are done)"
    held = _lines(evolve(STATUS, waits_for=WaitsFor.GATES), (GATE,))

    assert held[1:] == ["  it is held by", gate]
    assert _lines(None, (GATE,)) == ["stable@a1: web-02 is held by", gate]
    assert _lines(None) == ["stable@a1: web-02 is next: no gate holds it"]


@pytest.mark.parametrize(
    ("then", "is_overdue", "line"),
    [
        (AtDeadline.SKIP, False, "is {}: then it is not waited for, and served late"),
        (AtDeadline.FAIL, False, "is {}: then it counts as failed"),
        (AtDeadline.WAIT, False, "is {}: nothing follows, and it is shown as overdue"),
        (
            AtDeadline.WAIT,
            True,
            f'was {{}}; "nixfleet operator {SKIP}" or "nixfleet operator {EXCUSE}" goes on without it',
        ),
    ],
)
def test_a_deadline_is_shown_with_what_follows(
    then: AtDeadline, is_overdue: bool, line: str
) -> None:
    """One that has passed, and of which nothing follows, with what can be done."""
    status = evolve(
        STATUS,
        deadline=StageDeadline(Stage.ACK, LATER, then),
        is_overdue=is_overdue,
        until=LATER,
        commands=(SKIP, EXCUSE),
    )
    begin = "OVERDUE: the deadline for its ack" if is_overdue else "the deadline for its ack"

    *_, deadline, until = _lines(status)

    assert deadline == f"  {begin} {line.format(SHOWN_LATER)}"
    assert until == f"  the next change by itself: {SHOWN_LATER}"


@pytest.mark.parametrize(
    ("then", "retry_at", "line"),
    [
        (OnDrift.REPORT, None, "its channel reports that, and orders nothing"),
        (
            OnDrift.RESTORE,
            LATER,
            "another attempt, which gives it its target back, follows the back-off",
        ),
        (OnDrift.RESTORE, None, "another attempt is ordered, which gives it its target back"),
    ],
)
def test_a_drift_is_shown_with_what_follows(
    then: OnDrift, retry_at: datetime | None, line: str
) -> None:
    """What it runs, and since when."""
    drift = HostDrift("by-hand", NOW, then)
    waits_for = WaitsFor.BACKOFF if retry_at else WaitsFor.NOTHING
    status = evolve(
        STATUS, state=HostState.CONVERGED, waits_for=waits_for, retry_at=retry_at, drift=drift
    )

    _, waits, shown = _lines(status)

    what = f"drifted, and backs off: it tries again at {SHOWN_LATER}"
    assert waits == (f"  it {what}" if retry_at else "  it was done, and drifted")
    assert shown == f"  it runs by-hand instead of its target, since {SHOWN}: {line}"


@pytest.mark.parametrize("since", [NOW, None])
def test_a_host_that_left_is_shown_with_when(since: datetime | None) -> None:
    """If the log says when."""
    left = (LeftRollout(STABLE, since),)
    line, outside, _ = explanation_lines(
        HostExplained("web-02", (), outside=Outside.LEFT, left=left)
    )

    begin = f"stable@a1: web-02 left since {SHOWN}: " if since else "stable@a1: web-02 left: "
    assert line.startswith(begin)
    assert outside == "web-02 is in no rollout: it left the one above"


@pytest.mark.parametrize("outside", list(Outside))
def test_a_host_in_no_rollout_is_shown_with_the_reason(outside: Outside) -> None:
    """Each reason has words of its own."""
    line, _ = explanation_lines(HostExplained("web-02", (), channel="stable", outside=outside))

    others = {
        next(explanation_lines(HostExplained("web-02", (), channel="stable", outside=each)))
        for each in Outside
        if each is not outside
    }
    assert line.startswith("web-02 is in no rollout")
    assert line not in others


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            RecallStep.WAITS,
            f"it waits for its turn: the newest wave goes first, within budgets, until {SHOWN_LATER}",
        ),
        (
            RecallStep.TOLD,
            f"it is told with each heartbeat, until {SHOWN_LATER}, and has not begun to go back",
        ),
        (RecallStep.REFUSES, "it was told, and refuses: its refusal is above"),
        (RecallStep.GOING, "it goes back"),
        (RecallStep.BACK, "it is back"),
        (RecallStep.EXPIRED, f"the order expired at {SHOWN_LATER} before it went: recall it again"),
        (RecallStep.STAYS, "nothing is to be taken back on it"),
    ],
)
def test_a_recall_is_explained_with_who_why_and_how_far(step: RecallStep, said: str) -> None:
    """Below the rollout that is taken back, and no retry is advised in it."""
    failed = evolve(STATUS, rollout_state=RolloutState.ABORTED, state=HostState.FAILED)
    rollout = ExplainedRollout(STABLE, (), failed)
    recall = ListedRecall(STABLE, "order-1", "ada", "it eats disks", LATER, step)
    _, waits, order, _ = explanation_lines(HostExplained("web-02", (rollout,), recalls=(recall,)))

    assert order == f"  recalled by ada: it eats disks; {said} (order order-1)"
    assert "retry" not in waits
    assert "aborted" in waits


def test_a_recalled_host_that_waits_for_another_is_explained_with_its_name() -> None:
    """And until when the order is good, before which the other one has to be back or silent."""
    failed = evolve(STATUS, rollout_state=RolloutState.ABORTED, state=HostState.CONVERGED)
    rollout = ExplainedRollout(STABLE, (), failed)
    recall = ListedRecall(
        STABLE, "order-1", "ada", "it eats disks", LATER, RecallStep.WAITS, "web-09"
    )
    _, _, order, _ = explanation_lines(HostExplained("web-02", (rollout,), recalls=(recall,)))

    assert "it waits for web-09 of a later wave to be back, or silent for three minutes" in order
    assert f"until {SHOWN_LATER}" in order
