"""Checks the control plane's dispatches and records against the signed manifest. Pure; the engine acts on no other.

Source: docs/spec/trust.md, The agent trusts the manifest, not the dispatch.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from nixfleet_proto.codec import format_time
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import CLOCK_SKEW
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.state import HostRolloutState

SEQ_TAKEN_OVER_MAX: Final = 2**31
"""The highest number that is taken over from a control plane. A host numbers on from it, and the numbers of a rollout
must not run out: 64-bit integers in both databases. No real rollout has a thousandth of it."""

UNSIGNED_SOAK_MAX: Final = timedelta(days=366)
"""The longest soak that is taken from a control plane when the manifest signs none."""


def objection_to_dispatch(
    dispatch: Dispatch, manifest: RolloutManifest, hostname: str, now: datetime
) -> str | None:
    """Return why `dispatch` differs from the signed manifest for `hostname`, `None` if it agrees."""
    claimed = dispatch.hostname, dispatch.rollout_id, dispatch.target_closure
    times = dispatch.enqueued_at, dispatch.soak_due_at
    return (
        _objection("dispatch", claimed, manifest, hostname)
        or _wave_objection("dispatch", manifest, hostname, now)
        or _soak_objection("dispatch", times, manifest, hostname)
    )


def objection_to_record(
    record: HostRolloutState, manifest: RolloutManifest, hostname: str, now: datetime
) -> str | None:
    """Return why a record of the control plane differs from the signed manifest, `None` if it agrees."""
    # A record without a fact would count as an acknowledged dispatch, and no dispatch would be obeyed any more.
    if not 1 <= record.last_event_seq <= SEQ_TAKEN_OVER_MAX:
        return (
            f"expected a record of 1 to {SEQ_TAKEN_OVER_MAX} facts, found {record.last_event_seq}"
        )
    # Each attempt has an acknowledgement. A host counts on from the number, so a made-up one refuses every dispatch.
    if not 1 <= record.attempt <= record.last_event_seq:
        return (
            f"expected an attempt of 1 to {record.last_event_seq}, the number of its facts, "
            f"found {record.attempt} in the record"
        )
    claimed = record.hostname, record.rollout_id, record.target_closure
    times = (
        record.dispatched_at,
        record.dispatch_acked_at,
        record.activation_started_at,
        record.activation_completed_at,
    )
    soak = record.dispatched_at or now, record.soak_due_at or now
    return (
        _objection("record", claimed, manifest, hostname)
        or _wave_objection("record", manifest, hostname, now)
        or _ahead_objection(times, now)
        or _unsigned_soak_objection("record", soak, manifest, hostname)
    )


def _objection(
    what: str, claimed: tuple[str, str, str], manifest: RolloutManifest, hostname: str
) -> str | None:
    host, rollout_id, closure = claimed
    if host != hostname:
        return f"expected a {what} for {hostname}, found one for {host}"
    if rollout_id != manifest.rollout_id:
        return f"expected the manifest of {rollout_id}, found that of {manifest.rollout_id}"
    signed = manifest.target_of(hostname)
    if signed != closure:
        return (
            f"expected the closure {signed or 'none'} that the manifest of {manifest.rollout_id} "
            f"gives {hostname}, found {closure} in the {what}"
        )
    return None


def _wave_objection(
    what: str, manifest: RolloutManifest, hostname: str, now: datetime
) -> str | None:
    """The signed time of its wave is all that a host can know of the order of waves."""
    not_before = manifest.not_before_of(hostname)
    if not_before is None or now >= not_before:
        return None
    return (
        f"expected no {what} before {format_time(not_before)}, when the wave of {hostname} in {manifest.rollout_id} "
        f"begins, found one at {format_time(now)}"
    )


def _soak_objection(
    what: str, times: tuple[datetime, datetime], manifest: RolloutManifest, hostname: str
) -> str | None:
    """The soak is what was signed: a shorter one converges unwatched, a longer one keeps the host from converging."""
    minutes = manifest.soak_minutes_of(hostname)
    if minutes is None:
        return _unsigned_soak_objection(what, times, manifest, hostname)
    dispatched_at, soak_due_at = times
    if soak_due_at - dispatched_at == timedelta(minutes=minutes):
        return None
    found = (soak_due_at - dispatched_at) / timedelta(minutes=1)
    return (
        f"expected the soak of {minutes} min that the manifest of {manifest.rollout_id} gives {hostname}, "
        f"found {found:g} min in the {what}"
    )


def _unsigned_soak_objection(
    what: str, times: tuple[datetime, datetime], manifest: RolloutManifest, hostname: str
) -> str | None:
    """Without a signed soak it is the control plane's word. It is added to times, which must stay in the calendar."""
    dispatched_at, soak_due_at = times
    if (
        manifest.soak_minutes_of(hostname) is not None
        or timedelta() <= soak_due_at - dispatched_at <= UNSIGNED_SOAK_MAX
    ):
        return None
    found = (soak_due_at - dispatched_at) / timedelta(minutes=1)
    most = UNSIGNED_SOAK_MAX / timedelta(minutes=1)
    return f"expected a soak of 0 to {most:.0f} min, found {found:.0f} min in the {what}"


def _ahead_objection(times: Iterable[datetime | None], now: datetime) -> str | None:
    """A soak that begins in the future ends there: the host would watch one closure for years."""
    latest = max((time for time in times if time is not None), default=now)
    if latest - now <= CLOCK_SKEW:
        return None
    return f"expected times up to {now.isoformat()}, found {latest.isoformat()} in the record: check both clocks"
