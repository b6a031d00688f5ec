"""Laws of the rules that judge a probe by its samples over the soak, for any samples, soaks and clocks."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_agent.engine.health_rule import Verdict, verdict, window_of, with_tally
from nixfleet_agent.engine.observation import Observed, with_time
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.health_check import ExecProbe, health_rule_of
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_testing.samples import NOW

PERIOD = timedelta(seconds=10)
FOR_EVER = timedelta.max
RULES = st.sampled_from(("last-third", "1%", "50%", "90%", "100%"))
SAMPLES = st.lists(st.sampled_from(ProbeStatus), min_size=3, max_size=90)


def check_of(healthy: str | None) -> ExecProbe:
    return ExecProbe(("true",), timeout_secs=0, interval_seconds=10, healthy=healthy)


def soaking(samples: int) -> HostRolloutState:
    """A record whose soak is as long as so many samples take."""
    end = NOW + samples * PERIOD
    return HostRolloutState.pending(RolloutId("stable@r1"), "web-01", "stable", "new", NOW, end)


def judged(samples: list[ProbeStatus], healthy: str | None) -> Verdict:
    """What a rule says of a soak in which a probe showed this."""
    record, check, observed = soaking(len(samples)), check_of(healthy), Observed()
    for status in samples:
        observed = with_time(observed, PERIOD, FOR_EVER)
        observed = with_tally(observed, record, "alive", check, status, observed.soaked)
    return verdict(observed, record, "alive", check)


@given(rounds=st.integers(min_value=3, max_value=30), first=st.integers(0, 2))
def test_of_a_probe_that_fails_every_third_time_only_the_latest_rule_approves(
    rounds: int, first: int
) -> None:
    """Flapping is no sustained failure, so the default lets it pass; the other rules exist for it."""
    samples = [ProbeStatus.FAIL if n % 3 == first else ProbeStatus.PASS for n in range(3 * rounds)]

    assert judged(samples, None) is Verdict.HEALTHY
    assert judged(samples, "latest") is Verdict.HEALTHY
    assert judged(samples, "last-third") is Verdict.UNHEALTHY
    assert judged(samples, "90%") is Verdict.UNHEALTHY


@given(samples=SAMPLES, pct=st.integers(1, 100))
def test_a_share_is_that_of_the_passes(samples: list[ProbeStatus], pct: int) -> None:
    """Exactly: nothing is rounded."""
    enough = samples.count(ProbeStatus.PASS) * 100 >= pct * len(samples)

    assert judged(samples, f"{pct}%") is (Verdict.HEALTHY if enough else Verdict.UNHEALTHY)


@given(samples=SAMPLES, data=st.data())
def test_a_share_does_not_depend_on_the_order_of_the_samples(
    samples: list[ProbeStatus], data: st.DataObject
) -> None:
    """A fault counts for as much at the beginning of the soak as at its end."""
    shuffled = data.draw(st.permutations(samples))

    assert judged(samples, "90%") is judged(shuffled, "90%")


@given(samples=SAMPLES)
def test_the_last_third_fails_for_a_failure_in_it_and_for_no_other(
    samples: list[ProbeStatus],
) -> None:
    """A sample at the very beginning of the last third counts."""
    n = len(samples)
    last = [status for place, status in enumerate(samples, 1) if 3 * place >= 2 * n]
    is_healthy = ProbeStatus.FAIL not in last

    expected = Verdict.HEALTHY if is_healthy else Verdict.UNHEALTHY
    assert judged(samples, "last-third") is expected


@given(samples=SAMPLES, healthy=RULES, place=st.integers(0, 89))
def test_one_more_failure_never_makes_a_probe_healthy(
    samples: list[ProbeStatus], healthy: str, place: int
) -> None:
    """Rules are monotone in what a probe shows."""
    at = place % len(samples)
    worse = [*samples[:at], ProbeStatus.FAIL, *samples[at + 1 :]]

    if judged(samples, healthy) is Verdict.UNHEALTHY:
        assert judged(worse, healthy) is Verdict.UNHEALTHY


@given(
    passed=st.lists(st.sampled_from(ProbeStatus), min_size=3, max_size=90),
    soak=st.integers(3, 60),
    restart_at=st.integers(0, 60),
    healthy=RULES,
)
def test_nothing_is_decided_before_the_window_is_whole(
    passed: list[ProbeStatus], soak: int, restart_at: int, healthy: str
) -> None:
    """However late a process began to watch, it sees all of the window and as many samples as that demands."""
    began = PERIOD * min(restart_at, soak)
    record, check = soaking(soak), check_of(healthy)
    observed = Observed(soaked=began, watched_from=began)
    rule = health_rule_of(check)
    assert rule is not None
    window = window_of(rule, check, soak * PERIOD, began)
    for status in passed:
        observed = with_time(observed, PERIOD, FOR_EVER)
        observed = with_tally(observed, record, "alive", check, status, observed.soaked)
        is_decided = verdict(observed, record, "alive", check) is not Verdict.OPEN
        if is_decided:
            assert observed.soaked - began >= window.length
            assert observed.tallies["alive"].samples >= max(1, window.length // PERIOD)


@given(
    samples=SAMPLES,
    jumps=st.lists(st.sampled_from((-3600, -30, 3600, 86400)), max_size=5),
    data=st.data(),
)
def test_a_clock_that_is_set_never_shortens_a_window(
    samples: list[ProbeStatus], jumps: list[int], data: st.DataObject
) -> None:
    """A step of the clock counts as a minute at most, and none back: samples stay in their order."""
    step_max = timedelta(seconds=60)
    record, check, observed = soaking(len(samples)), check_of("last-third"), Observed()
    places = []
    at = {data.draw(st.integers(0, len(samples) - 1)): jump for jump in jumps}
    for number, status in enumerate(samples):
        passed = PERIOD + timedelta(seconds=at.get(number, 0))
        before = observed.soaked
        observed = with_time(observed, passed, step_max)
        assert timedelta() <= observed.soaked - before <= step_max
        observed = with_tally(observed, record, "alive", check, status, observed.soaked)
        places.append(observed.soaked)
    assert places == sorted(places)
