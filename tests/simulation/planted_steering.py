"""Bugs planted in what operators decide about a rollout by hand.

As in `planted`: each is a function that plants one; its sentence says what goes wrong. Every fourth seed has aborts.
"""

from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_agent.engine import home, recalls
from nixfleet_agent.engine.handlers import orders, samples
from nixfleet_agent.engine.observation import Observed
from nixfleet_agent.engine.state import State
from nixfleet_agent.probes.runner import PASSED
from nixfleet_agent.workers import warrants
from nixfleet_control_plane.engine import entry_handlers
from nixfleet_control_plane.engine.warrants import hand_out_warrants
from nixfleet_proto.policy import Recall
from nixfleet_proto.signing.warrant import VerifiedWarrant, verify_warrant
from nixfleet_proto.steering.warrant import SignedWarrant, Warrant
from nixfleet_simulation.scenario.acts import Act, LoseDisk, RecallRelease, Release
from nixfleet_simulation.scenario.scenario import ChannelLayout, Scenario
from nixfleet_simulation.scenario.steering_acts import HoldPlace, HoldUntil
from nixfleet_state_machine.rollout.event import RolloutAborted, RolloutEvent
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState
from tests.simulation.planted import Plant
from tests.simulation.planted_directed import Directed


def takes_an_abort_for_a_halt(patch: pytest.MonkeyPatch) -> None:
    """An aborted rollout is Failed, so that a clearance makes it go on."""

    def halted(record: RolloutRecord, event: RolloutEvent, now: datetime) -> Any:
        after, effects = step_rollout(record, event, now)
        if isinstance(event, RolloutAborted) and after.state is RolloutState.ABORTED:
            after = evolve(after, state=RolloutState.FAILED)
        return after, effects

    patch.setattr(entry_handlers, "step_rollout", halted)


def never_misses_home(patch: pytest.MonkeyPatch) -> None:
    """A host that was cut off by its release takes its silence for nothing."""
    patch.setattr(home, "failed", lambda expected, found: PASSED)


def takes_every_silence_for_a_cut(patch: pytest.MonkeyPatch) -> None:
    """The second address is not looked at: an outage of the control plane sends hosts back."""
    judged = home.home_outcome

    def suspicious(check: Any, rollout: Any, observed: Observed, _: Any) -> Any:
        return judged(check, rollout, observed, False)

    patch.setattr(samples, "home_outcome", suspicious)


def believes_every_warrant(patch: pytest.MonkeyPatch) -> None:
    """The signature of an order is not verified: a control plane makes its own."""
    patch.setattr(warrants, "verify_warrant", lambda signed, trust, now: _taken(signed))


def obeys_orders_that_are_over(patch: pytest.MonkeyPatch) -> None:
    """The end of an order is not looked at: it can be kept, and relayed when it suits."""

    def late(signed: SignedWarrant, trust: Any, now: datetime) -> Any:
        return verify_warrant(signed, trust, signed.warrant.issued_at)

    patch.setattr(warrants, "verify_warrant", late)
    patch.setattr(orders, "is_over", lambda *_: False)


def obeys_orders_for_others(patch: pytest.MonkeyPatch) -> None:
    """Whom an order is for is not looked at."""
    patch.setattr(Warrant, "is_for", lambda self, hostname: True)


def goes_back_without_a_grant(patch: pytest.MonkeyPatch) -> None:
    """What CI signed about recalls is not looked at, on either side."""
    object_to = recalls.objection_to_recall

    def granted(state: State, warrant: Warrant) -> str | None:
        rollouts = {
            rollout_id: evolve(it, policy=evolve(it.policy, recall=Recall.OPERATOR))
            for rollout_id, it in state.rollouts.items()
        }
        seen: Any = SimpleNamespace(hostname=state.hostname, rollouts=rollouts, orders=state.orders)
        return object_to(seen, warrant)

    patch.setattr(orders, "objection_to_recall", granted)


def believes_in_the_closure_of_a_lost_journal(patch: pytest.MonkeyPatch) -> None:
    """A host whose journal was lost goes back to what the control plane says ran before."""
    way_back = recalls._objection_to_way_back

    def trusting(about: str, rollout: Any) -> str | None:
        return way_back(about, evolve(rollout, taken_over_seq=0))

    patch.setattr(recalls, "_objection_to_way_back", trusting)


def keeps_orders_back_in_a_hold(patch: pytest.MonkeyPatch) -> None:
    """A hold stops those who should go back, too."""

    def held(state: Any, hostname: str, now: datetime) -> Any:
        return (
            () if any(True for _ in state.view.holds) else hand_out_warrants(state, hostname, now)
        )

    patch.setattr("nixfleet_control_plane.engine.engine.hand_out_warrants", held)


def _recalled(*acts: Act) -> Scenario:
    channel = ChannelLayout("stable", (("host-01",),), soak_minutes=0, recall=Recall.OPERATOR)
    return Scenario(1, (channel,), (Release(10, "stable", "r1", ""), *acts), 1200)


DIRECTED_IN_STEERING: Final[Mapping[str, Directed]] = {
    directed.plant.__name__: directed
    for directed in (
        Directed(
            believes_in_the_closure_of_a_lost_journal,
            _recalled(
                LoseDisk(300, "host-01", 300.0), RecallRelease(900, "stable", "host-01", 3600)
            ),
        ),
        Directed(
            keeps_orders_back_in_a_hold,
            _recalled(
                HoldUntil(900, "stable", HoldPlace.FLEET, "", 9000),
                RecallRelease(960, "stable", "", 7200),
            ),
        ),
    )
}


def _taken(signed: SignedWarrant) -> VerifiedWarrant:
    return VerifiedWarrant(signed.warrant, signed)


PLANTED_IN_STEERING: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        takes_an_abort_for_a_halt,
        never_misses_home,
        takes_every_silence_for_a_cut,
        believes_every_warrant,
        obeys_orders_that_are_over,
        obeys_orders_for_others,
        goes_back_without_a_grant,
    )
}

FOUND_BY_IN_STEERING: Final[Mapping[str, int]] = {
    "takes_an_abort_for_a_halt": 3,
    "never_misses_home": 19,
    "takes_every_silence_for_a_cut": 7,
    "believes_every_warrant": 7,
    "obeys_orders_that_are_over": 7,
    "obeys_orders_for_others": 303,
    "goes_back_without_a_grant": 43,
}
"""As `planted.FOUND_BY`."""
