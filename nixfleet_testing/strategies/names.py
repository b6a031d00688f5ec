"""Names, closures and times that everything else is drawn from: few, so that they collide."""

from datetime import UTC, datetime, timedelta
from functools import cache

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, Recall, Retry, Tolerance

START = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
SECONDS_MAX = 600


@cache
def channels() -> SearchStrategy[str]:
    return st.sampled_from(("stable", "edge"))


@cache
def rollout_ids() -> SearchStrategy[RolloutId]:
    return st.builds(RolloutId.of, channels(), st.sampled_from(("a1b2", "c3d4")))


@cache
def hostnames() -> SearchStrategy[str]:
    return st.sampled_from(("web-01", "web-02", "db-01"))


@cache
def closures() -> SearchStrategy[str]:
    return st.sampled_from(("closure-1", "closure-2", "closure-3"))


@cache
def probe_names() -> SearchStrategy[str]:
    return st.sampled_from(("nginx", "disk"))


@cache
def times(earliest: datetime = START) -> SearchStrategy[datetime]:
    """Whole seconds from `earliest`, within `SECONDS_MAX`."""
    return st.integers(0, SECONDS_MAX).map(lambda seconds: earliest + timedelta(seconds=seconds))


@cache
def policies() -> SearchStrategy[RolloutPolicy]:
    return st.builds(
        RolloutPolicy,
        on_health_failure=st.sampled_from(OnHealthFailure),
        max_failures=st.none() | st.integers(0, 3),
        max_failure_pct=st.none() | st.sampled_from((10, 50, 100)),
        deadlines=deadlines(),
        retry=retries(),
        recall=st.sampled_from(Recall),
    )


@cache
def tolerances() -> SearchStrategy[Tolerance]:
    shares = st.none() | st.sampled_from((10, 50, 100))
    return st.builds(Tolerance, st.none() | st.integers(0, 3), shares)


@cache
def some_deadlines() -> SearchStrategy[Deadline]:
    return st.builds(Deadline, st.sampled_from((1, 30)), st.sampled_from(AtDeadline))


@cache
def deadlines() -> SearchStrategy[Deadlines]:
    each = st.none() | some_deadlines()
    return st.builds(Deadlines, each, each, each, each)


@cache
def retries() -> SearchStrategy[Retry]:
    return st.builds(Retry, st.integers(1, 3), st.sampled_from((0, 60)), st.integers(1, 3))
