"""The use of every field of a policy is guarded: its test fails when the field is ignored.

A field is ignored by letting it read as if it had not been declared; then the test that is named for it here is run.
Source: docs/spec/policy.md, Laws.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import DisruptionBudget, FleetChannel, OnDrift, Ramp, Wave
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.manifest import ManifestBudget
from nixfleet_proto.policy import (
    DEADLINE_MINUTES_MAX,
    AtDeadline,
    Deadline,
    Deadlines,
    PolicyWave,
    Recall,
    Retry,
    RolloutPolicy,
    Selector,
    Tolerance,
)
from nixfleet_proto.steering.guards import Approvals, Check, WaveGuards
from nixfleet_state_machine.host.state import HostState
from tests.control_plane import test_engine_guards as waves
from tests.control_plane import test_engine_pace as engine_pace
from tests.control_plane import test_engine_policy as engine
from tests.control_plane import test_engine_warrants as warrants
from tests.control_plane import test_judge_answers as answers
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.scratch import scratch_directory
from tests.host import test_from_activating as activating
from tests.planner import test_deadlines as deadlines
from tests.planner import test_guard_states as states
from tests.planner import test_pace as paces
from tests.planner import test_terms as terms
from tests.proto import test_policy as proto
from tests.release import test_guards as guards
from tests.release import test_pace as release_pace
from tests.release import test_policies as policies
from tests.release import test_unsupported as unsupported


@attrs.frozen
class Guard:
    """The test that guards a field. ignored: what the field then reads as. arguments: those that are no fixtures."""

    test: Callable[..., None]
    ignored: object
    arguments: Mapping[str, object] = FrozenMap()


def _case(test: Callable[..., None], first: object) -> Mapping[str, object]:
    """Return the arguments of the case of a parametrized test whose first one is `first`, or is in that state."""
    (mark,) = cast("Any", test).pytestmark
    names, cases = mark.args
    return next(
        dict(zip(names, case, strict=True))
        for case in cases
        if first in (case[0], getattr(case[0], "state", None))
    )


_STAGE = deadlines.test_a_host_that_acts_is_overdue_a_grace_after_the_deadline_of_its_stage
_SIGNED = policies.test_the_signed_policy_says_what_its_waves_say
_NO_GATE = FrozenMap[str, JsonValue]()

GUARDS: Mapping[type, Mapping[str, Guard]] = {
    RolloutPolicy: {
        "on_health_failure": Guard(
            activating.test_a_failed_activation_goes_back_when_the_policy_says_so,
            OnHealthFailure.HALT,
        ),
        # These two do nothing, and that is said.
        "strategy": Guard(
            unsupported.test_what_has_no_effect_in_a_resolved_fleet_is_kept_and_reported, "waves"
        ),
        "health_gate": Guard(
            unsupported.test_what_has_no_effect_in_a_resolved_fleet_is_kept_and_reported, _NO_GATE
        ),
        "waves": Guard(_SIGNED, ()),
        "max_failures": Guard(engine.test_a_failure_that_is_tolerated_stops_nothing, None),
        "max_failure_pct": Guard(
            terms.test_the_base_of_a_share_is_the_signed_size_of_the_wave, None
        ),
        "deadlines": Guard(
            engine.test_a_host_that_is_off_is_not_waited_for_past_its_deadline, Deadlines()
        ),
        "retry": Guard(
            engine.test_a_retry_that_succeeds_makes_the_host_count_as_converged, Retry()
        ),
        "recall": Guard(
            warrants.test_a_recall_aborts_its_rollout_and_is_in_the_log_as_it_was_signed,
            Recall.NEVER,
        ),
    },
    PolicyWave: {
        "selector": Guard(_SIGNED, Selector(all=True)),
        "soak_minutes": Guard(_SIGNED, 0),
        "max_failures": Guard(_SIGNED, None),
        "max_failure_pct": Guard(_SIGNED, None),
        "guards": Guard(
            guards.test_the_guards_of_a_wave_reach_the_terms_of_its_rollout, WaveGuards()
        ),
    },
    Tolerance: {
        "max_failures": Guard(
            proto.test_the_smaller_of_number_and_share_may_fail,
            None,
            {"number": 2, "share": 10, "base": 30, "allowed": 2},
        ),
        "max_failure_pct": Guard(
            proto.test_the_smaller_of_number_and_share_may_fail,
            None,
            {"number": 5, "share": 10, "base": 30, "allowed": 3},
        ),
    },
    Deadlines: {
        "ack": Guard(deadlines.test_a_dispatch_is_overdue_at_the_deadline_itself, None),
        "activation": Guard(_STAGE, None, _case(_STAGE, HostState.ACTIVATING)),
        "reboot": Guard(_STAGE, None, _case(_STAGE, HostState.DEFERRED)),
        "convergence": Guard(_STAGE, None, _case(_STAGE, HostState.SOAKING)),
    },
    Deadline: {
        "minutes": Guard(
            engine.test_a_host_that_is_off_is_not_waited_for_past_its_deadline,
            DEADLINE_MINUTES_MAX,
        ),
        "then": Guard(
            deadlines.test_what_follows_at_a_deadline_is_what_it_says,
            AtDeadline.WAIT,
            _case(deadlines.test_what_follows_at_a_deadline_is_what_it_says, AtDeadline.SKIP),
        ),
    },
    Retry: {
        "attempts": Guard(engine.test_a_retry_that_succeeds_makes_the_host_count_as_converged, 1),
        "backoff_seconds": Guard(engine.test_a_host_that_failed_tries_again_after_its_back_off, 60),
        "factor": Guard(
            deadlines.test_the_back_off_grows_by_its_factor_and_is_spread_by_a_tenth,
            2,
            {"attempt": 3},
        ),
    },
    Wave: {
        "max_failures": Guard(terms.test_a_wave_has_its_own_tolerance_or_that_of_its_policy, None),
        "max_failure_pct": Guard(
            policies.test_a_wave_that_gives_number_and_share_has_the_smaller, None
        ),
        "guards": Guard(waves.test_a_wave_that_bakes_begins_after_its_minutes, WaveGuards()),
    },
    WaveGuards: {
        "bake_minutes": Guard(waves.test_a_wave_that_bakes_begins_after_its_minutes, 0),
        "approvals": Guard(states.test_guards_are_asked_once_the_wave_before_is_done, None),
        "checks": Guard(states.test_guards_are_asked_once_the_wave_before_is_done, ()),
        "waivable": Guard(waves.test_a_promotion_waives_what_may_be_waived_and_nothing_else, ()),
    },
    Approvals: {
        "count": Guard(states.test_approvals_are_a_quorum_of_different_operators, 1),
        "names": Guard(states.test_approvals_are_a_quorum_of_different_operators, ()),
    },
    Check: {
        "name": Guard(waves.test_a_check_is_asked_as_it_was_signed, "other"),
        "judge": Guard(waves.test_a_check_is_asked_as_it_was_signed, "other"),
        "query": Guard(waves.test_a_check_is_asked_as_it_was_signed, "other"),
        "comparison": Guard(waves.test_a_check_is_asked_as_it_was_signed, "> 5"),
        "passes": Guard(states.test_a_check_is_a_quorum_of_answers_in_a_row, 1),
        "failures": Guard(states.test_a_check_is_a_quorum_of_answers_in_a_row, 0),
        "inconclusive": Guard(states.test_a_check_is_a_quorum_of_answers_in_a_row, None),
        "interval_seconds": Guard(answers.test_a_check_is_asked_again_after_its_interval, 5),
    },
    FleetChannel: {
        "on_drift": Guard(policies.test_a_channel_says_what_follows_a_drift, OnDrift.REPORT),
    },
    Ramp: {
        "start": Guard(
            paces.test_a_ramp_begins_with_its_start_and_grows_by_its_factor,
            1,
            {"ramp": Ramp(2, 3), "limit": 100, "steps": [2, 2, 6, 6, 6, 6, 6, 6, 18]},
        ),
        "factor": Guard(
            paces.test_a_doubling_ramp_has_the_steps_of_its_table,
            1,
            {"converged": 1, "slots": 2, "grows_at": 3},
        ),
    },
    ManifestBudget: {
        "ramp": Guard(engine_pace.test_the_slots_of_a_ramp_double_as_hosts_converge, None),
        "max_per_minute": Guard(engine_pace.test_two_hosts_a_minute_begin_by_the_clock_alone, None),
    },
    DisruptionBudget: {
        "ramp": Guard(release_pace.test_a_pace_reaches_the_terms_of_its_rollout, None),
        "max_per_minute": Guard(release_pace.test_a_pace_reaches_the_terms_of_its_rollout, None),
    },
}
OF_POLICIES = (
    RolloutPolicy,
    PolicyWave,
    Tolerance,
    Deadlines,
    Deadline,
    Retry,
    Ramp,
    WaveGuards,
    Approvals,
    Check,
)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


@pytest.fixture
def control_plane(scratch: Path) -> Iterator[ScriptedControlPlane]:
    """A control plane of its own."""
    scripted = ScriptedControlPlane(scratch)
    yield scripted
    scripted.close()


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        pytest.param(cls, name, id=f"{cls.__name__}.{name}")
        for cls, guards in GUARDS.items()
        for name in guards
    ],
)
def test_a_field_that_is_ignored_fails_its_test(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cls: type, name: str
) -> None:
    """Whoever removes the use of a field of a policy is told."""
    guard = GUARDS[cls][name]
    fixtures = inspect.signature(guard.test).parameters.keys() - guard.arguments.keys()
    arguments = {**guard.arguments, **{it: request.getfixturevalue(it) for it in fixtures}}
    slot: Any = vars(cls)[name]
    ignored = property(lambda _: guard.ignored, lambda record, value: slot.__set__(record, value))
    monkeypatch.setattr(cls, name, ignored)

    with pytest.raises(AssertionError):
        guard.test(**arguments)


def test_every_field_of_a_policy_has_its_guard() -> None:
    """A field that is added needs a test that fails without it."""
    for cls in OF_POLICIES:
        assert GUARDS[cls].keys() == {field.name for field in attrs.fields(cls)}
