"""What is barred, refused and enrolled, as lists in a fixed order. Pure functions of the state.

Each item has a place, two texts by which the list is ordered and a page is continued.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from heapq import nsmallest
from operator import itemgetter
from typing import TypeAlias, TypeVar

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.engine.wait_groups import WaitGroup
from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_control_plane.store.queries import Quarantined
from nixfleet_proto.enrollment import BootstrapNonce
from nixfleet_proto.signing import fingerprint_of
from nixfleet_runtime.http.fleet_pages import (
    EnrollmentStanding,
    ListedEnrollment,
    ListedQuarantine,
    ListedRefusal,
    RefusalKind,
)
from nixfleet_runtime.http.listings import RefusedArtefact, RefusedEnrollment
from nixfleet_runtime.transport import ActingRefusal
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.gates import quarantine_reason

T = TypeVar("T")
Place: TypeAlias = tuple[str, str]


Item: TypeAlias = tuple[Place, Callable[[], T]]
"""An item of a list: its place, and what makes it. Only those of a page are made."""


def page_of(
    items: Iterable[Item[T]], after: Place | None, limit: int
) -> tuple[tuple[T, ...], Place | None]:
    """Return up to `limit` items after a place, in order, and the last one's place if there are more."""
    ahead = (item for item in items if after is None or item[0] > after)
    page = nsmallest(limit + 1, ahead, key=itemgetter(0))
    shown = page[:limit]
    return tuple(make() for _, make in shown), shown[-1][0] if len(page) > limit else None


def quarantines(state: State, stored: Iterable[Quarantined]) -> Iterator[Item[ListedQuarantine]]:
    """Yield the closures that are barred, by channel. stored: as the store has them."""
    rows = {(it.channel, it.closure): it for it in stored if not it.cleared}
    for channel, closures in state.quarantines.items():
        for closure in closures:
            row = rows.get((channel, closure))
            yield (channel, closure), partial(_quarantine, state, channel, closure, row)


def refusals(
    state: State,
    artefacts: Iterable[RefusedArtefact],
    acting: Mapping[str, Collection[ActingRefusal]],
) -> Iterator[Item[ListedRefusal]]:
    """Yield what is refused now. acting: what agents do not act on, by host."""
    for artefact in artefacts:
        yield (
            ("0", artefact.name),
            partial(
                ListedRefusal,
                RefusalKind.ARTEFACT,
                artefact.reason,
                name=artefact.name,
                since=artefact.since,
            ),
        )
    for hostname, its in acting.items():
        for each in its:
            made = partial(
                ListedRefusal,
                RefusalKind.ACTING,
                each.reason,
                hostname=hostname,
                rollout_id=each.rollout_id,
                since=each.since,
            )
            yield ("1", f"{hostname}\0{each.rollout_id}"), made
    for (rollout_id, hostname, seq), refusal in state.refused.items():
        event = partial(
            ListedRefusal,
            RefusalKind.EVENT,
            refusal.reason,
            hostname=hostname,
            rollout_id=rollout_id,
            seq=seq,
        )
        yield ("2", f"{rollout_id}\0{hostname}\0{seq:020}"), event


def enrollments(
    ring: KeyRing,
    awaited: Iterable[BootstrapNonce],
    refused: Iterable[RefusedEnrollment],
    heard: Callable[[str], datetime | None],
) -> Iterator[Item[ListedEnrollment]]:
    """Yield hosts that are enrolled or revoked, tokens that are not used, and enrollments that were refused.

    awaited: the tokens that are not used. heard: when a host was heard of last.
    """
    hosts = {*ring.enrolled, *ring.fleet_keys, *ring.revoked}
    for hostname in hosts:
        yield (hostname, "0"), partial(_known, ring, hostname, heard(hostname))
    for nonce in awaited:
        token = partial(
            ListedEnrollment, nonce.hostname, EnrollmentStanding.AWAITED, until=nonce.expires_at
        )
        yield (nonce.hostname, f"1{nonce.nonce}"), token
    for knock in refused:
        asked = partial(
            ListedEnrollment,
            knock.hostname,
            EnrollmentStanding.KNOCKING,
            knock.fingerprint,
            knock.last_at,
            reason=knock.reason,
            count=knock.count,
        )
        yield (knock.hostname, "2"), asked


def _quarantine(
    state: State, channel: str, closure: str, row: Quarantined | None
) -> ListedQuarantine:
    return ListedQuarantine(
        channel,
        closure,
        _waiting(state, channel, closure),
        state.quarantined_at.get((channel, closure)),
        None if row is None else row.triggering_event_log_seq,
    )


def _known(ring: KeyRing, hostname: str, heard_at: datetime | None) -> ListedEnrollment:
    host, declared = ring.enrolled.get(hostname), ring.fleet_keys.get(hostname)
    revocation = ring.revoked.get(hostname)
    key = declared if declared is not None and revocation is None else None
    if key is None and host is not None:
        key = host.public_key
    fingerprint = None if key is None else fingerprint_of(key)
    if revocation is not None and ring.is_revoked(hostname):
        return ListedEnrollment(
            hostname,
            EnrollmentStanding.REVOKED,
            fingerprint,
            revocation.not_before,
            reason=revocation.reason,
            last_heard_at=heard_at,
        )
    if declared is not None and key is declared:
        return ListedEnrollment(
            hostname, EnrollmentStanding.DECLARED, fingerprint, last_heard_at=heard_at
        )
    return ListedEnrollment(
        hostname,
        EnrollmentStanding.ENROLLED,
        fingerprint,
        None if host is None else host.enrolled_at,
        last_heard_at=heard_at,
    )


def _waiting(state: State, channel: str, closure: str) -> int:
    """Return how many hosts wait for a closure. O(groups): the reason names the closure."""
    reason = quarantine_reason(channel, closure)
    served = (it for it in state.view.rollouts_of(channel) if it.state.is_served)
    return sum(
        state.waits.hosts_in(WaitGroup(record.rollout_id, Gate.QUARANTINE, reason))
        for record in served
    )
