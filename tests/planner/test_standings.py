"""Standings: who is counted again when it comes, who is skipped because another one does not, and who is late."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_proto.policy import Retry, Tolerance
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.standings import (
    HEARD_AGAIN,
    REPORTED_AGAIN,
    heard_again,
    late_or_counted,
    may_be_pruned,
    reported_again,
    skipped_with,
    skips_due,
)
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import StandingChanged
from nixfleet_state_machine.rollout.state import RETENTION_MAX, RolloutState, Standing
from tests.planner.builders import NOW, host_of, put, rollout_of, terms_of, view_of

TERMS = terms_of(waves=(("web-1", "web-2"), ("web-3",)))
ID = TERMS.rollout_id
# db-1 before web-1 before web-2; web-3 on its own.
CHAIN = terms_of(
    waves=(("db-1", "web-1", "web-2", "web-3"),), edges=(("db-1", "web-1"), ("web-1", "web-2"))
)


def _view(
    terms: RolloutTerms = TERMS,
    state: RolloutState = RolloutState.ACTIVE,
    wave: int = 0,
    **standings: Standing,
) -> FleetView:
    view = view_of(terms)
    named = {name.replace("_", "-"): standing for name, standing in standings.items()}
    view.set_rollout(rollout_of(terms, state, wave=wave, standings=named))
    return view


# --- coming back ---------------------------------------------------------------------------------


@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.LAPSED])
def test_a_silent_host_that_is_heard_of_counts_again(standing: Standing) -> None:
    """A heartbeat is enough: it has no dispatch, so it had nothing to answer."""
    changed = heard_again(_view(web_1=standing), ID, "web-1", NOW)

    assert changed == StandingChanged(ID, ("web-1",), Standing.COUNTED, HEARD_AGAIN, NOW)


@pytest.mark.parametrize("standing", [Standing.COUNTED, Standing.EXCUSED, Standing.SKIPPED])
def test_a_host_that_was_not_silent_changes_nothing_by_being_heard_of(standing: Standing) -> None:
    """To be heard of is nothing new, or it was not the reason."""
    assert heard_again(_view(web_1=standing), ID, "web-1", NOW) is None


def test_a_silent_host_with_a_dispatch_counts_again_only_by_a_report() -> None:
    """It was heard of all the time: it does not do what it was told."""
    view = _view(web_1=Standing.AWAY)
    view.set_queued(ID, "web-1", True)

    assert heard_again(view, ID, "web-1", NOW) is None
    assert reported_again(view, ID, "web-1", NOW) is not None


def test_a_silent_host_that_acts_counts_again_only_by_a_report() -> None:
    """A host that hangs in its switch sends heartbeats as well."""
    view = _view(web_1=Standing.LAPSED)
    put(view, TERMS, web_1=HostState.ACTIVATING)

    assert heard_again(view, ID, "web-1", NOW) is None


@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.LAPSED, Standing.SKIPPED])
def test_a_host_that_reports_counts_again(standing: Standing) -> None:
    """Whether it was silent, or skipped for the sake of another one: it acts."""
    changed = reported_again(_view(web_1=standing), ID, "web-1", NOW)

    assert changed == StandingChanged(ID, ("web-1",), Standing.COUNTED, REPORTED_AGAIN, NOW)


@pytest.mark.parametrize(
    "standing", [Standing.COUNTED, Standing.EXCUSED, Standing.LATE, Standing.LEFT]
)
def test_a_report_changes_no_other_standing(standing: Standing) -> None:
    """An operator's word stands, and who is late stays late."""
    assert reported_again(_view(web_1=standing), ID, "web-1", NOW) is None


def test_a_host_whose_wave_is_done_comes_late() -> None:
    """It is served and counts for nothing; one of the present wave counts."""
    view = _view(wave=1, web_1=Standing.AWAY, web_3=Standing.AWAY)
    late, counted = (heard_again(view, ID, host, NOW) for host in ("web-1", "web-3"))

    assert late is not None
    assert counted is not None
    assert (late.standing, counted.standing) == (Standing.LATE, Standing.COUNTED)


def test_a_host_of_a_terminal_rollout_comes_late() -> None:
    """Also one of its last wave."""
    view = _view(state=RolloutState.TERMINAL, wave=1)

    assert late_or_counted(view, ID, "web-3") is Standing.LATE


def test_a_host_in_no_wave_is_never_late_in_a_live_rollout() -> None:
    """There is no wave that was done without it."""
    terms = terms_of(waves=(("web-1",), ("web-2",)), unstaged=("web-9",))

    assert late_or_counted(_view(terms, wave=1), ID, "web-9") is Standing.COUNTED


def test_a_host_that_comes_back_and_waits_for_one_that_does_not_is_skipped() -> None:
    """It would be waited for without end otherwise."""
    view = _view(CHAIN, db_1=Standing.LAPSED, web_1=Standing.AWAY)
    changed = heard_again(view, ID, "web-1", NOW)

    assert changed is not None
    assert changed.standing is Standing.SKIPPED


def test_a_host_that_comes_back_and_waits_for_one_that_was_skipped_is_skipped() -> None:
    """Who waits for it will not come either."""
    view = _view(CHAIN, db_1=Standing.LAPSED, web_1=Standing.SKIPPED, web_2=Standing.AWAY)
    changed = heard_again(view, ID, "web-2", NOW)

    assert changed is not None
    assert changed.standing is Standing.SKIPPED


@pytest.mark.parametrize("standing", [Standing.COUNTED, Standing.EXCUSED, Standing.LEFT])
def test_a_host_that_comes_back_and_waits_for_one_that_may_come_counts(standing: Standing) -> None:
    """Nobody waits for one that is excused or gone, and the others are at work."""
    changed = heard_again(_view(CHAIN, db_1=standing, web_1=Standing.AWAY), ID, "web-1", NOW)

    assert changed is not None
    assert changed.standing is Standing.COUNTED


# --- being skipped -------------------------------------------------------------------------------


@pytest.mark.parametrize("standing", [Standing.AWAY, Standing.LAPSED, Standing.SKIPPED])
def test_hosts_that_wait_for_one_that_does_not_come_are_skipped(standing: Standing) -> None:
    """All of them, also those that wait for one that waits; nobody else."""
    changed = skipped_with(_view(CHAIN, db_1=standing), ID, "db-1", NOW)

    assert changed is not None
    assert (changed.hosts, changed.standing) == (("web-1", "web-2"), Standing.SKIPPED)
    assert "db-1" in changed.reason


@pytest.mark.parametrize("standing", [Standing.EXCUSED, Standing.LEFT, Standing.LATE])
def test_nobody_is_skipped_for_one_that_nobody_waits_for(standing: Standing) -> None:
    """The edge is open then, or the host is on its way."""
    assert skipped_with(_view(CHAIN, db_1=standing), ID, "db-1", NOW) is None


def _with_failure(allowed: int, attempts: int, attempt: int = 1) -> FleetView:
    terms = terms_of(
        waves=(tuple(CHAIN.targets),),
        edges=(("db-1", "web-1"), ("web-1", "web-2")),
        allowed=(allowed,),
        retry=Retry(attempts=attempts),
    )
    view = view_of(terms)
    view.set_host(
        evolve(host_of(terms, "db-1", HostState.REVERTED), failed_at=NOW, attempt=attempt)
    )
    return view


def test_hosts_that_wait_for_one_that_may_fail_and_did_are_skipped() -> None:
    """Edges are not tolerant."""
    changed = skipped_with(_with_failure(1, 1), ID, "db-1", NOW)

    assert changed is not None
    assert changed.hosts == ("web-1", "web-2")


def test_nobody_is_skipped_for_one_that_failed_and_halted_the_rollout() -> None:
    """Where no host may fail, an operator decides what becomes of all."""
    assert skipped_with(_with_failure(0, 1), ID, "db-1", NOW) is None


def test_hosts_are_skipped_when_the_last_attempt_failed_and_not_before() -> None:
    """While it may try again it may come."""
    assert skipped_with(_with_failure(1, attempts=2), ID, "db-1", NOW) is None
    assert skipped_with(_with_failure(1, attempts=2, attempt=2), ID, "db-1", NOW) is not None


@pytest.mark.parametrize("state", [HostState.CONVERGED, HostState.DEFERRED])
def test_nobody_is_skipped_for_one_that_is_through(state: HostState) -> None:
    """A host that went silent while it waits for its reboot lets others proceed."""
    view = _view(CHAIN, db_1=Standing.AWAY)
    view.set_host(host_of(CHAIN, "db-1", state))

    assert skipped_with(view, ID, "db-1", NOW) is None


def test_hosts_that_are_at_work_are_not_skipped() -> None:
    """They do not wait any more, and neither does who waits for them."""
    view = _view(CHAIN, db_1=Standing.AWAY)
    put(view, CHAIN, web_1=HostState.ACTIVATING)

    assert skipped_with(view, ID, "db-1", NOW) is None


def test_hosts_with_another_standing_are_not_skipped() -> None:
    """What is said of them already stays."""
    view = _view(CHAIN, db_1=Standing.AWAY, web_1=Standing.EXCUSED)

    assert skipped_with(view, ID, "db-1", NOW) is None


def test_a_circle_of_edges_is_walked_once() -> None:
    """A declaration refuses one; a rollout under terms that have one skips each host once."""
    terms = terms_of(
        waves=(("a", "b", "c"),), edges=(("a", "b"), ("b", "c"), ("c", "b"), ("c", "a"))
    )
    changed = skipped_with(_view(terms, a=Standing.AWAY), ID, "a", NOW)

    assert changed is not None
    assert changed.hosts == ("b", "c")


@pytest.mark.parametrize(
    "state", [each for each in RolloutState if each.value not in ("Active", "Converging")]
)
def test_nobody_is_skipped_in_a_rollout_that_does_not_go_on(state: RolloutState) -> None:
    """What a halted one does next is an operator's decision, and a finished one waits for nobody."""
    assert skipped_with(_view(CHAIN, state, db_1=Standing.AWAY), ID, "db-1", NOW) is None


def test_nobody_is_skipped_for_a_host_that_nobody_waits_for() -> None:
    """There is nothing to say then."""
    assert skipped_with(_view(CHAIN, web_3=Standing.AWAY), ID, "web-3", NOW) is None


def test_a_rollout_that_goes_on_skips_who_waits_for_a_host_that_is_away() -> None:
    """Nobody asked while it was halted."""
    (changed,) = skips_due(_view(CHAIN, db_1=Standing.AWAY), ID, NOW)
    assert changed == skipped_with(_view(CHAIN, db_1=Standing.AWAY), ID, "db-1", NOW)
    assert tuple(skips_due(_view(CHAIN), ID, NOW)) == ()


# --- pruning ---------------------------------------------------------------------------------------


def _over(
    standings: dict[str, Standing] | None = None,
    state: HostState = HostState.PENDING,
    *,
    attempts: dict[str, int] | None = None,
    made: int = 1,
) -> FleetView:
    """Return a Terminal rollout that its channel names. web-1: in `state`, by `standings`."""
    view = view_of(TERMS)
    view.set_host(evolve(host_of(TERMS, "web-1", state), attempt=made))
    view.set_rollout(
        rollout_of(TERMS, RolloutState.TERMINAL, standings=standings or {}, attempts=attempts or {})
    )
    return view


LATER = NOW + RETENTION_MAX - timedelta(seconds=1)


@pytest.mark.parametrize(
    "standing", [Standing.LATE, Standing.AWAY, Standing.LAPSED, Standing.SKIPPED]
)
def test_a_terminal_rollout_with_a_host_to_come_is_kept_for_ninety_days(standing: Standing) -> None:
    """It is forgotten then, whoever is still missing."""
    view = _over({"web-1": standing})

    assert not may_be_pruned(view, ID, LATER)
    assert may_be_pruned(view, ID, NOW + RETENTION_MAX)


@pytest.mark.parametrize("standing", [Standing.COUNTED, Standing.EXCUSED, Standing.LEFT])
def test_a_terminal_rollout_without_a_host_to_come_is_pruned(standing: Standing) -> None:
    """Nobody is served any more."""
    assert may_be_pruned(_over({"web-1": standing}), ID, NOW)


@pytest.mark.parametrize("state", HostState)
def test_a_late_host_that_is_at_rest_keeps_no_rollout(state: HostState) -> None:
    """One that is at work, or has not begun, does."""
    at_rest = (HostState.CONVERGED, HostState.FAILED, HostState.REVERTED)
    assert may_be_pruned(_over({"web-1": Standing.LATE}, state), ID, NOW) is (state in at_rest)


@pytest.mark.parametrize(("ordered", "made", "keeps"), [(2, 1, True), (2, 2, False), (1, 2, False)])
def test_a_late_host_that_is_to_try_again_keeps_its_rollout(
    ordered: int, made: int, keeps: bool
) -> None:
    """Not one whose journal tells of more attempts than this log has orders."""
    late = {"web-1": Standing.LATE}
    view = _over(late, HostState.CONVERGED, attempts={"web-1": ordered}, made=made)
    assert may_be_pruned(view, ID, NOW) is not keeps


def test_a_late_host_without_a_record_keeps_its_rollout() -> None:
    """It has not begun."""
    view = view_of(TERMS)
    late = {"web-1": Standing.LATE}
    view.set_rollout(rollout_of(TERMS, RolloutState.TERMINAL, standings=late))
    assert not may_be_pruned(view, ID, NOW)


@pytest.mark.parametrize(
    "state", [each for each in RolloutState if each is not RolloutState.TERMINAL]
)
def test_a_rollout_that_serves_nobody_late_is_pruned(state: RolloutState) -> None:
    """Only the retention is waited for."""
    view = view_of(TERMS)
    late = rollout_of(TERMS, state, standings={"web-1": Standing.LATE})
    view.set_rollout(late)
    assert may_be_pruned(view, ID, NOW)
    # It may have been Terminal before.
    view.set_rollout(evolve(late, terminal_at=NOW))
    assert may_be_pruned(view, ID, NOW)


def test_a_rollout_that_its_channel_does_not_name_is_pruned() -> None:
    """Another release, or none, has the hosts."""
    view = _over({"web-1": Standing.LATE})
    view.retract("stable")
    assert may_be_pruned(view, ID, NOW)
    view.offer(terms_of("stable@b2"))
    assert may_be_pruned(view, ID, NOW)


def test_a_host_without_a_record_does_not_fail_for_good() -> None:
    """Who waits for it waits on: it may still come."""
    view = FleetView()
    view.open(rollout_of(CHAIN), CHAIN)
    assert skipped_with(view, CHAIN.rollout_id, "db-1", NOW) is None


def test_an_attempt_that_was_ordered_of_another_host_lets_nobody_wait() -> None:
    """Each host has attempts of its own."""
    terms = evolve(CHAIN, wave_tolerances=(Tolerance(3),))
    view = view_of(terms)
    view.set_rollout(rollout_of(terms, attempts={"db-1": 2}))
    put(view, terms, db_1=HostState.FAILED)
    assert skipped_with(view, terms.rollout_id, "db-1", NOW) is None
    view.set_rollout(rollout_of(terms, attempts={"web-3": 2}))
    assert skipped_with(view, terms.rollout_id, "db-1", NOW) is not None
