"""A second implementation of what the passing of time makes due: lapses past deadlines, and attempts after a back-off.

Source: docs/spec/policy.md, Deadlines; docs/spec/policy.md, Attempts.
"""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, TypeAlias

from nixfleet_proto.policy import Deadline
from nixfleet_simulation.judge.model.host_model import HostModel
from nixfleet_simulation.scenario.scenario import PolicyLayout

CONTROL_PLANE_WAITS_LONGER: Final = timedelta(minutes=5)
SILENT_AFTER: Final = timedelta(minutes=3)
LONGEST_BACKOFF: Final = timedelta(days=7)

Lapse: TypeAlias = tuple[str, str]
"""Stage, and the standing that follows."""


def lapse_due(
    policy: PolicyLayout, host: HostModel, standing: str, attempt: int, now: datetime
) -> Lapse | None:
    """Return what is due for a host that was silent past the deadline of its stage; `None`: nothing is."""
    stage = host.stage(attempt)
    if stage is None or standing not in ("counted", "late"):
        return None
    name, since = stage
    deadline: Deadline | None = getattr(policy.deadlines, name)
    if deadline is None or not has_consequence(deadline):
        return None
    longer = timedelta(0) if name == "ack" else CONTROL_PLANE_WAITS_LONGER
    if now < since + timedelta(minutes=deadline.minutes) + longer:
        return None
    counts_as_failed = deadline.then.value == "fail" or host.counts_as_failed
    return name, "lapsed" if counts_as_failed and standing == "counted" else "away"


def has_consequence(deadline: Deadline | None) -> bool:
    """Return whether anything follows when the deadline is over."""
    return deadline is not None and deadline.then.value != "wait"


def retry_due_at(policy: PolicyLayout, host: HostModel, ordered: int) -> datetime | None:
    """Return when the next attempt of a host is due; `None`: never."""
    failed_at = host.reverted_at or host.failed_at
    if ordered > host.attempt or host.attempt >= policy.retry.attempts or failed_at is None:
        return None
    if host.state not in ("Failed", "Reverted") or host.is_rolling_back:
        return None
    return failed_at + backoff(policy, host.name, host.attempt)


def backoff(policy: PolicyLayout, hostname: str, attempt: int) -> timedelta:
    """Return the wait after an attempt that failed, with its part by host and attempt."""
    seconds = policy.retry.backoff_seconds
    for _ in range(attempt - 1):
        seconds *= policy.retry.factor
    wait = min(timedelta(seconds=seconds), LONGEST_BACKOFF)
    part = int(sha256(f"{hostname}\0{attempt}".encode()).hexdigest()[:8], 16) % 1024
    return wait * (1 + part / 10240)
