"""Laws of tolerance, standings, attempts and back-off: what holds for any policy and any history of a wave."""

from collections import Counter
from datetime import timedelta

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Retry
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.deadlines import backoff_of, due_of
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.passing_time import due_by_time, next_time
from nixfleet_state_machine.planner.rollout_status import overdue_by_stage, overdue_hosts
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.planner.verdict import WaveVerdict, verdict_of
from nixfleet_state_machine.rollout.event import RetryOrdered
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from tests.planner.builders import NOW, host_of, rollout_of, terms_of, view_of

NAMES = ("a", "b", "c", "d")
OUTCOMES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(HostState), max_size=4)
STANDINGS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(Standing), max_size=4)
ALLOWED = st.integers(0, 4)


def _terms(allowed: int) -> RolloutTerms:
    return terms_of(waves=(NAMES,), allowed=(allowed,))


def _put(view: FleetView, terms: RolloutTerms, name: str, state: HostState) -> None:
    has_failed = state in (HostState.FAILED, HostState.REVERTED)
    record = host_of(terms, name, state)
    view.set_host(evolve(record, failed_at=NOW if has_failed else None))


@given(outcomes=OUTCOMES, standings=STANDINGS, allowed=ALLOWED, data=st.data())
def test_the_verdict_of_a_wave_does_not_depend_on_the_order_of_what_happened(
    outcomes: dict[str, HostState],
    standings: dict[str, Standing],
    allowed: int,
    data: st.DataObject,
) -> None:
    """Whatever came first, and whether standings were set before or after: the verdict is the same."""
    terms = _terms(allowed)
    verdicts: list[WaveVerdict] = []
    for _ in range(2):
        view = view_of(terms)
        names = data.draw(st.permutations([*outcomes, ""]))
        for name in names:
            if name:
                _put(view, terms, name, outcomes[name])
            else:
                view.set_rollout(rollout_of(terms, standings=standings))
        verdicts.append(verdict_of(view, terms.rollout_id, 0))

    assert verdicts[0] is verdicts[1]


@given(outcomes=OUTCOMES, standings=STANDINGS, allowed=ALLOWED)
def test_each_host_of_a_wave_is_counted_in_one_way(
    outcomes: dict[str, HostState], standings: dict[str, Standing], allowed: int
) -> None:
    """It counts, is missing, or is nobody's business; of those that count none both succeeded and failed."""
    terms = _terms(allowed)
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, standings=standings))
    for name, state in outcomes.items():
        _put(view, terms, name, state)
    tally = view.tally(terms.rollout_id, 0)
    rest = [each for each in standings.values() if not (each.is_counted or each.is_absent)]

    assert tally.total + tally.absent + len(rest) == len(NAMES)
    assert tally.eligible + tally.failed <= tally.total
    assert tally.settled + tally.failed <= tally.total
    assert tally.converged <= tally.settled


@given(
    steps=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(list(HostState)))),
    standings=STANDINGS,
    state=st.sampled_from((RolloutState.ACTIVE, RolloutState.FAILED, RolloutState.TERMINAL)),
    then=st.sampled_from(list(AtDeadline)),
    minutes=st.integers(0, 40),
)
def test_the_hosts_that_are_kept_as_overdue_are_those_that_a_walk_finds(
    steps: list[tuple[str, HostState]],
    standings: dict[str, Standing],
    state: RolloutState,
    then: AtDeadline,
    minutes: int,
) -> None:
    """Whatever became of them before; the walk finds those too of which something follows."""
    each = Deadline(10, then)
    terms = evolve(_terms(0), deadlines=Deadlines(each, each, each, each))
    view = view_of(terms)
    for name, host_state in steps:
        record = host_of(terms, name, host_state)
        view.set_host(
            evolve(record, dispatch_acked_at=NOW, deferred_at=NOW, activation_completed_at=NOW)
        )
    view.set_rollout(rollout_of(terms, state, standings=standings))
    now = NOW + timedelta(minutes=minutes)
    walked = Counter(it.stage for it in overdue_hosts(view, now) if it.overdue_at is not None)

    kept = overdue_by_stage(view, now)

    assert kept == (walked if then is AtDeadline.WAIT else {})


@given(outcomes=OUTCOMES, standings=STANDINGS, allowed=ALLOWED)
def test_a_wave_in_which_nobody_is_open_is_done_or_broken(
    outcomes: dict[str, HostState], standings: dict[str, Standing], allowed: int
) -> None:
    """Nothing wedges: a wave goes on only while a host that counts may still succeed or fail."""
    terms = _terms(allowed)
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, standings=standings))
    for name, state in outcomes.items():
        _put(view, terms, name, state)
    through = (HostState.CONVERGED, HostState.DEFERRED, HostState.FAILED, HostState.REVERTED)
    is_open = any(
        name not in standings or standings[name] is Standing.COUNTED
        for name in NAMES
        if outcomes.get(name) not in through
    )

    if verdict_of(view, terms.rollout_id, 0) is WaveVerdict.GOING:
        assert is_open


@given(
    attempts=st.integers(1, 5),
    backoff_seconds=st.integers(0, 3600),
    factor=st.integers(1, 4),
    lasted=st.lists(st.integers(0, 7200), min_size=6, max_size=6),
)
def test_a_host_tries_as_often_as_the_policy_says_and_never_before_its_back_off(
    attempts: int, backoff_seconds: int, factor: int, lasted: list[int]
) -> None:
    """A host that fails at every attempt makes all of them, and each waits at least its time."""
    retry = Retry(attempts, backoff_seconds, factor)
    terms = terms_of(waves=(("a", "b"),), allowed=(1,), retry=retry)
    view, id_, made = view_of(terms), terms.rollout_id, 1
    failed_at = NOW
    host: HostRolloutState = host_of(terms, "a", HostState.FAILED)
    for seconds in lasted:
        view.set_host(evolve(host, failed_at=failed_at, attempt=made))
        due_at = next_time(view)
        if due_at is None:
            break
        assert due_at - failed_at >= timedelta(seconds=backoff_seconds * factor ** (made - 1))
        (event,) = due_by_time(view, due_at, lambda _: None)
        assert isinstance(event, RetryOrdered)
        assert event.attempt == made + 1
        view.set_rollout(step_rollout(view.rollout(id_), event, due_at)[0])
        assert next_time(view) is None
        made, failed_at = event.attempt, due_at + timedelta(seconds=seconds)

    assert made == attempts


@given(attempt=st.integers(1, 50), seconds=st.integers(0, 10**6), factor=st.integers(1, 10))
def test_a_further_attempt_never_waits_less_than_the_one_before_by_more_than_the_spread(
    attempt: int, seconds: int, factor: int
) -> None:
    """Back-off does not shrink, but for the tenth by which hosts are spread."""
    retry = Retry(99, seconds, factor)
    wait, longer = backoff_of(retry, "a", attempt), backoff_of(retry, "a", attempt + 1)

    assert longer * 1.1 >= wait


@given(state=st.sampled_from(HostState), standing=st.sampled_from(Standing), is_dated=st.booleans())
def test_a_policy_that_says_nothing_makes_nothing_due(
    state: HostState, standing: Standing, is_dated: bool
) -> None:
    """No host lapses, and none tries again, where nobody said so."""
    terms = terms_of(waves=(NAMES,))
    record = evolve(host_of(terms, "a", state), failed_at=NOW if is_dated else None)
    rollout = rollout_of(terms, standings={"a": standing})
    due = due_of(terms, rollout, record, NOW)

    assert due is None
