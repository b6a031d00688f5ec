"""Rough use of the public functions: every mistake is an error of ours that says what was expected."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from attrs import evolve

import nixfleet
from nixfleet import (
    AlreadyOpen,
    Converged,
    DispatchAck,
    FleetView,
    FrozenMap,
    HostJoined,
    HostRolloutState,
    InvalidRolloutId,
    InvalidValue,
    Local,
    NixfleetError,
    PolicyWave,
    Remote,
    RolloutId,
    RolloutOpened,
    RolloutPolicy,
    RolloutRecord,
    RolloutTerms,
    Selector,
    UnknownHost,
    UnknownRollout,
    Wave,
    due_rollout_events,
    explain,
    open_rollout,
    plan_next,
    rehydration_effects,
    replan,
    replay_host,
    replay_rollout,
    step,
    step_rollout,
    to_json,
)
from nixfleet_proto.codec import format_time
from nixfleet_testing.pauses import pause_of

NOW = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
NAIVE = datetime(2026, 5, 16, 1, 0)  # noqa: DTZ001
STABLE = RolloutId("stable@a1")
TERMS = RolloutTerms.build(
    STABLE, {"web-01": "new", "web-02": "new"}, waves=[["web-01"], ["web-02"]]
)
OPENED = RolloutOpened(STABLE, "stable", "a1", NOW)
POLICY = RolloutPolicy()
PENDING = HostRolloutState.pending(STABLE, "web-01", "stable", "new", NOW, NOW)
FACT = DispatchAck("old", NOW, 1)
# What a caller may pass where a type checker was not asked.
WRONG: tuple[Any, ...] = (None, 1, "web-01", NAIVE, {}, [], FACT, PENDING, TERMS, object())


def rollout() -> RolloutRecord:
    """A rollout that was just opened."""
    return open_rollout(OPENED, 1, ())


def view() -> FleetView:
    """A view in which `stable@a1` is open, with one host's record."""
    fleet = FleetView()
    fleet.offer(TERMS)
    fleet.open(rollout(), TERMS)
    fleet.set_host(PENDING)
    return fleet


CALLS: dict[str, tuple[Callable[..., object], tuple[Any, ...]]] = {
    "step": (step, (PENDING, Local(FACT), NOW, POLICY)),
    "step_rollout": (step_rollout, (rollout(), HostJoined(STABLE, "web-01", 0, NOW), NOW)),
    "open_rollout": (open_rollout, (OPENED, 1, ())),
    "plan_next": (plan_next, (view(), {}, NOW)),
    "replan": (replan, (view(), {}, NOW)),
    "explain": (explain, (view(), {}, "web-01")),
    "due_rollout_events": (due_rollout_events, (view(), STABLE, NOW)),
    "replay_host": (replay_host, (PENDING, [(FACT, NOW)], POLICY)),
    "replay_rollout": (replay_rollout, (rollout(), [(HostJoined(STABLE, "web-01", 0, NOW), NOW)])),
    "rehydration_effects": (rehydration_effects, (PENDING,)),
    "RolloutTerms.build": (RolloutTerms.build, ("stable@a1", {"web-01": "new"})),
    "HostRolloutState.pending": (
        lambda a, b, c, d: HostRolloutState.pending(a, b, c, d, None, None),
        (STABLE, "web-01", "stable", "new"),
    ),
    "RolloutId": (RolloutId, ("stable@a1",)),
    "RolloutId.of": (RolloutId.of, ("stable", "a1")),
    "FleetView.offer": (lambda terms: view().offer(terms), (TERMS,)),
    "FleetView.open": (lambda *given: FleetView().open(*given), (rollout(), TERMS)),
    "FleetView.set_rollout": (lambda record: view().set_rollout(record), (rollout(),)),
    "FleetView.set_host": (lambda record: view().set_host(record), (PENDING,)),
    "FleetView.set_queued": (
        lambda rollout_id, host: view().set_queued(rollout_id, host, True),
        (STABLE, "web-01"),
    ),
    "FleetView.set_outstanding": (
        lambda rollout_id, host: view().set_outstanding(rollout_id, host, 1),
        (STABLE, "web-01"),
    ),
    "FleetView.forget_rollout": (lambda id_: view().forget_rollout(id_), (STABLE,)),
    "FleetView.hold": (lambda hold: view().hold(hold), (pause_of("stable", "why"),)),
    "FleetView.release": (lambda *key: view().release(*key), pause_of("stable").key),
    "FleetView.retract": (lambda channel: view().retract(channel), ("stable",)),
    "FleetView.in_flight": (lambda selector: view().in_flight(selector), (Selector(all=True),)),
    "FleetView.terms": (lambda id_: view().terms(id_), (STABLE,)),
    "FleetView.tally": (lambda id_: view().tally(id_), (STABLE,)),
    "FleetView.hosts_of": (lambda id_: [*view().hosts_of(id_)], (STABLE,)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_with_any_argument_of_another_type_is_an_error_of_ours(name: str) -> None:
    """Each argument is replaced by values that are none; the call is accepted or refused by name, never a traceback."""
    call, arguments = CALLS[name]
    call(*arguments)
    for at, given in enumerate(arguments):
        for wrong in WRONG:
            if type(wrong) is type(given) or (
                isinstance(given, tuple | list) and wrong in ([], {})
            ):
                continue
            with pytest.raises(NixfleetError) as refusal:
                call(*arguments[:at], wrong, *arguments[at + 1 :])
            assert "expected" in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["step", "step_rollout", "plan_next", "replan", "due_rollout_events"]
)
def test_a_naive_now_is_refused_with_the_time_that_was_given(name: str) -> None:
    """A time without an offset is a guess, so it is refused before anything is decided."""
    call, arguments = CALLS[name]
    with pytest.raises(InvalidValue) as refusal:
        call(*(NAIVE if given is NOW else given for given in arguments))

    assert str(refusal.value) == (
        f"{name}: now: expected a datetime with a UTC offset, found 2026-05-16T01:00:00, which has none"
    )


def test_a_naive_time_is_refused_where_the_fact_is_made() -> None:
    """The error comes at the first fact, not at the third, and names the field."""
    with pytest.raises(
        InvalidValue, match="DispatchAck: received_at: expected a datetime with a UTC offset"
    ):
        DispatchAck("old", NAIVE, 1)


def test_every_field_that_is_wrong_is_named_at_once() -> None:
    """Two mistakes are two problems, each with its field, what was expected and what was found."""
    wrong: Any = "old"
    with pytest.raises(InvalidValue) as refusal:
        HostRolloutState.pending(wrong, "noon", "1", "new", NAIVE, NOW)

    assert refusal.value.what == "HostRolloutState"
    assert [problem.path for problem in refusal.value.problems] == ["rollout_id", "dispatched_at"]


def test_an_item_of_a_collection_is_named_by_its_place() -> None:
    """The path leads to the item that is wrong."""
    hosts: Any = {"web-01": 7}
    with pytest.raises(
        InvalidValue, match=r"targets\['web-01'\]: expected a string, found 7 \(int\)"
    ):
        RolloutTerms.build("stable@a1", hosts)


def test_a_time_with_another_offset_is_accepted_and_means_the_same() -> None:
    """An aware time is exact, whatever its offset."""
    elsewhere = NOW.astimezone(timezone(timedelta(hours=2)))

    assert DispatchAck("old", elsewhere, 1) == FACT


def test_facts_and_times_are_checked_under_optimization_as_well() -> None:
    """With `python -O` a naive time is refused, not shifted by the machine's zone."""
    source = (
        "from datetime import datetime\n"
        "from nixfleet import InvalidValue\n"
        "from nixfleet_proto.codec import format_time\n"
        "try:\n    print(format_time(datetime(2026, 5, 16)))\n"
        "except InvalidValue as refusal:\n    print(refusal)"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", source], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("format_time: at: expected a datetime with a UTC offset")


def test_formatting_a_naive_time_is_refused() -> None:
    """The codec does not guess a zone."""
    with pytest.raises(InvalidValue, match="format_time"):
        format_time(NAIVE)


def test_an_unknown_rollout_is_an_error_that_lists_the_open_ones() -> None:
    """The names that there are help to see the mistake; the error is a KeyError too."""
    with pytest.raises(UnknownRollout, match="expected one of stable@a1") as refusal:
        view().terms(RolloutId("stable@typo"))

    assert refusal.value.open_rollouts == ("stable@a1",)
    assert isinstance(refusal.value, KeyError)


@pytest.mark.parametrize(
    "call",
    [
        lambda fleet: explain(fleet, {}, "web-1"),
        lambda fleet: fleet.set_queued(STABLE, "web-1", True),
        lambda fleet: fleet.set_outstanding(STABLE, "web-1", 1),
    ],
)
def test_an_unknown_host_is_an_error_that_lists_the_hosts(
    call: Callable[[FleetView], object],
) -> None:
    """A mistyped host is not silently one that waits for nothing."""
    with pytest.raises(UnknownHost, match="expected one of web-01, web-02"):
        call(view())


def test_opening_a_rollout_twice_is_refused() -> None:
    """The second time would drop the records of its hosts."""
    with pytest.raises(AlreadyOpen, match="set_rollout"):
        view().open(rollout(), TERMS)


def test_opening_a_rollout_with_the_terms_of_another_is_refused() -> None:
    """Record and terms must be of one rollout."""
    other = RolloutTerms.build("stable@b2", {"web-01": "new"})
    with pytest.raises(InvalidValue, match="expected the terms of stable@a1"):
        FleetView().open(rollout(), other)


def test_dispatching_a_host_that_is_not_pending_is_refused() -> None:
    """Only a record before its first fact, or one that may try again, takes a dispatch."""
    activating, _ = step(PENDING, Remote(FACT), NOW, POLICY)
    with pytest.raises(
        InvalidValue, match="expected Pending, or one that may try again, found Activating"
    ):
        activating.dispatched(NOW, NOW)


def test_an_illegal_fact_is_a_refusal_and_no_misuse() -> None:
    """A well-made fact at the wrong time is the machine's business; the caller did nothing wrong."""
    with pytest.raises(nixfleet.IllegalForState):
        step(PENDING, Local(Converged(NOW, "new", 1)), NOW, POLICY)


def test_an_error_that_no_argument_explains_is_raised_as_it_is() -> None:
    """An event that was made without its class's `__init__` has no fact: the interpreter's own error says so."""
    hollow = Local.__new__(Local)
    with pytest.raises(AttributeError, match="fact"):
        step(PENDING, hollow, NOW, POLICY)


def test_a_rollout_id_that_is_no_string_says_so() -> None:
    """A number is no id, and the error is the one for malformed ids."""
    number: Any = 5
    with pytest.raises(InvalidRolloutId, match=r"expected a string, found 5 \(int\)"):
        RolloutId(number)


def test_what_is_no_data_of_ours_has_no_json() -> None:
    """`to_json` refuses by name and does not call `str` on what it does not know."""
    with pytest.raises(InvalidValue, match="expected a record of nixfleet"):
        to_json(object())


CONTRADICTIONS: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "terms without a wave": (
        lambda: evolve(TERMS, wave_soak_minutes=(), wave_of=FrozenMap()),
        ("wave_soak_minutes: expected minutes for at least one wave, found none",),
    ),
    "a host in a wave that does not exist": (
        lambda: evolve(TERMS, wave_of=FrozenMap({"web-01": 5})),
        (
            "wave_of['web-01']: expected a wave that has a soak in wave_soak_minutes, 0 to 1, found 5",
        ),
    ),
    "a negative soak and an unknown host": (
        lambda: evolve(TERMS, wave_soak_minutes=(-1, 0), wave_of=FrozenMap({"web-1": 0})),
        (
            "wave_soak_minutes[0]: expected 0 or more, found -1",
            "wave_of: expected hosts that have a target, found 'web-1', which has none",
        ),
    ),
    "terms of another channel": (
        lambda: evolve(TERMS, channel="other", target_ref="b2"),
        (
            "channel: expected 'stable', as rollout_id has it, found 'other'",
            "target_ref: expected 'a1', as rollout_id has it, found 'b2'",
        ),
    ),
    "a wave that soaks for less than no time": (
        lambda: PolicyWave(Selector(all=True), -5),
        ("soak_minutes: expected 0 or more, found -5",),
    ),
    "a resolved wave that soaks for less than no time": (
        lambda: Wave(("web-01",), -5),
        ("soak_minutes: expected 0 or more, found -5",),
    ),
    "a host without a name, of another channel": (
        lambda: HostRolloutState.pending(STABLE, "", "other", "new", None, None),
        (
            "hostname: expected a name, found an empty string",
            "channel: expected 'stable', as rollout_id has it, found 'other'",
        ),
    ),
    "a rollout opened on another channel": (
        lambda: open_rollout(RolloutOpened(STABLE, "other", "a1", NOW), 1, ()),
        ("channel: expected 'stable', as rollout_id has it, found 'other'",),
    ),
    "terms with a host without a name": (
        lambda: RolloutTerms.build(STABLE, {"": "new"}),
        ("targets: expected host names, found an empty string",),
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_values_that_contradict_each_other_are_refused_with_every_field(name: str) -> None:
    """What no rollout can have is refused where it is made, not found out by a plan that waits for ever."""
    make, problems = CONTRADICTIONS[name]
    with pytest.raises(InvalidValue) as refusal:
        make()

    assert tuple(map(str, refusal.value.problems)) == problems


@pytest.mark.parametrize("wrong", ["xxnewxx", 5, ["new"], None])
@pytest.mark.parametrize("call", ["plan_next", "replan", "explain"])
def test_quarantined_closures_that_are_no_set_are_refused(call: str, wrong: Any) -> None:
    """A string would be searched for closures as substrings: hosts would wait for a quarantine that is none."""
    function, arguments = CALLS[call]
    with pytest.raises(InvalidValue, match=r"quarantines\['stable'\]: expected a set, found"):
        function(arguments[0], {"stable": wrong}, *arguments[2:])


@pytest.mark.parametrize(
    "option",
    [
        {"predecessors": "base"},
        {"predecessors": [5]},
        {"predecessors": 5},
        {"soak_minutes": None},
        {"soak_minutes": "12"},
        {"soak_minutes": 1.5},
        {"soak_minutes": True},
        {"waves": [5]},
        {"waves": 5},
        {"waves": "ab"},
        {"waves": [[5]]},
        {"budgets": [(5, 1)]},
        {"budgets": 5},
        {"budgets": [("web-01", 1)]},
        {"host_edges": 5},
        {"host_edges": ["ab"]},
    ],
    ids=str,
)
def test_terms_are_not_built_from_options_of_another_type(option: dict[str, Any]) -> None:
    """Each option is refused by its name; a string is never taken for a collection of its letters."""
    with pytest.raises(InvalidValue, match=next(iter(option))):
        RolloutTerms.build(STABLE, {"web-01": "new"}, **option)


@pytest.mark.parametrize(
    "call",
    [
        lambda fleet, wrong: fleet.set_queued(STABLE, "web-01", wrong),
        lambda fleet, wrong: fleet.set_outstanding(STABLE, "web-01", wrong),
        lambda fleet, wrong: fleet.quarantine_changed(wrong, "new"),
        lambda fleet, wrong: fleet.quarantine_changed("stable", wrong),
    ],
)
@pytest.mark.parametrize("wrong", [None, -1, [], object()])
def test_a_view_is_not_changed_by_a_value_of_another_type(
    call: Callable[[FleetView, Any], object], wrong: Any
) -> None:
    """Counts, flags and names are checked as records are."""
    with pytest.raises(InvalidValue, match="expected"):
        call(view(), wrong)
