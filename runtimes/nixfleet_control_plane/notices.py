"""What operators must see and the log does not hold: refusals of hosts, releases and enrollments, and what a start left
out. In memory only.

All of it comes again after a start: hosts repeat their refusals with every heartbeat, the release directory is read
again, and a host whose enrollment is refused asks again. Bounded: what strangers and hosts say takes no more than the
limits here.
Source: docs/spec/runtimes.md, Notices.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from attrs import evolve

from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.http.bodies import REASON_LENGTH_MAX, REFUSALS_MAX
from nixfleet_runtime.http.listings import RefusedArtefact, RefusedEnrollment
from nixfleet_runtime.transport import ActingRefusal

ENROLLMENTS_MAX: Final = 100


class Notices:
    """The notices of one control plane. One task at a time uses it: the event loop's."""

    def __init__(self) -> None:
        self.release_problem: str | None = None
        """Why the release directory cannot be read; `None` if it can."""
        self.left_out: tuple[str, ...] = ()
        """What the start could not load from the database."""
        self._hosts: dict[str, tuple[ActingRefusal, ...]] = {}
        self._artefacts: dict[str, tuple[SignedArtefact | None, RefusedArtefact]] = {}
        self._enrollments: dict[str, RefusedEnrollment] = {}

    # Hosts.

    def host_reports(self, hostname: str, refusals: Collection[ActingRefusal]) -> None:
        """Replace what `hostname` refuses."""
        if not refusals:
            self._hosts.pop(hostname, None)
            return
        first = tuple(refusals)[:REFUSALS_MAX]
        self._hosts[hostname] = tuple(
            evolve(it, rollout_id=_cut(it.rollout_id), reason=_cut(it.reason)) for it in first
        )

    def refusals_of(self, hostname: str) -> tuple[ActingRefusal, ...]:
        """Return what a host refuses, by its last heartbeat."""
        return self._hosts.get(hostname, ())

    @property
    def acting_refusals(self) -> Mapping[str, tuple[ActingRefusal, ...]]:
        """What agents do not act on, by host."""
        return self._hosts

    @property
    def refusing_hosts(self) -> int:
        """The number of hosts that refuse something."""
        return len(self._hosts)

    # Releases.

    def artefact_refused(
        self, name: str, artefact: SignedArtefact | None, reason: str, at: datetime
    ) -> None:
        """Note that the artefact with this name is refused."""
        known = self._artefacts.get(name)
        since = at if known is None or known[0] != artefact else known[1].since
        self._artefacts[name] = (artefact, RefusedArtefact(name, reason, since))

    def is_refused(self, name: str, reason: str) -> bool:
        """Whether the artefact with this name is known to be refused for this reason."""
        known = self._artefacts.get(name)
        return known is not None and known[1].reason == reason

    def artefact_taken(self, name: str) -> None:
        """Note that the artefact with this name is in force."""
        self._artefacts.pop(name, None)

    def directory_has(self, artefacts: Mapping[str, SignedArtefact]) -> None:
        """Remove the refusals of artefacts that the release directory does not hold any more."""
        for name, (artefact, _) in list(self._artefacts.items()):
            if artefacts.get(name) != artefact:
                del self._artefacts[name]

    @property
    def refused_artefacts(self) -> tuple[RefusedArtefact, ...]:
        """The artefacts of the release directory that are refused, by name."""
        return tuple(refusal for _, (_, refusal) in sorted(self._artefacts.items()))

    # Enrollments.

    def enrollment_refused(
        self, hostname: str, fingerprint: str, kind: str, reason: str, at: datetime
    ) -> None:
        """Note a refused enrollment; of one host the last one. Beyond the limit, the oldest is forgotten."""
        hostname = _cut(hostname)
        known = self._enrollments.pop(hostname, None)
        count = 1 if known is None else known.count + 1
        refused = RefusedEnrollment(hostname, fingerprint, kind, _cut(reason), at, count)
        self._enrollments[hostname] = refused
        if len(self._enrollments) > ENROLLMENTS_MAX:
            del self._enrollments[next(iter(self._enrollments))]

    def enrolled(self, hostname: str) -> None:
        """Note that a host is enrolled."""
        self._enrollments.pop(hostname, None)

    @property
    def refused_enrollments(self) -> tuple[RefusedEnrollment, ...]:
        """The hosts whose enrollment was refused, the latest first."""
        return tuple(reversed(self._enrollments.values()))


def _cut(text: str) -> str:
    return text if len(text) <= REASON_LENGTH_MAX else f"{text[: REASON_LENGTH_MAX - 1]}…"
