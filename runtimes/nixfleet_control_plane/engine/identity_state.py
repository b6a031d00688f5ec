"""The identity part of the control plane's state: the key ring, the signed lists behind it, used nonces.

Each change is made in memory and written to the store in the same commit, as in `state`; nothing is decided here.
Request authentication receives a new ring once it is durable, through `UseKeys`.
Source: docs/spec/trust.md, Enrollment; docs/spec/trust.md, Revocations; docs/spec/runtimes.md, Store.
"""

from collections.abc import Iterable, Mapping

from attrs import evolve, frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.messages.inputs import UseKeys
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing, UsedNonce
from nixfleet_control_plane.messages.writes import (
    PutEnrolledHost,
    PutRevocation,
    PutUsedNonce,
    RemoveRevocations,
    RemoveUsedNonce,
)
from nixfleet_proto.enrollment import BootstrapNonces, Revocation, Revocations
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.undo import UndoableDict, UndoableValue, UndoLog


@frozen
class NamedFleet:
    """The hash of the fleet whose `pubkey`s are in the ring."""

    fleet_hash: str = ""


class Identities:
    """Hosts' keys and the lists that decide about them. `ring` has no operators: they come from the trust file."""

    def __init__(self, undo: UndoLog) -> None:
        self._ring = UndoableValue(undo, KeyRing())
        self._named_fleet = UndoableValue(undo, NamedFleet())
        self.used_nonces = UndoableDict[str, UsedNonce](undo)
        self.nonces = UndoableValue[BootstrapNonces | None](undo, None)
        self.revocations = UndoableValue[Revocations | None](undo, None)

    @property
    def ring(self) -> KeyRing:
        """The current keys of hosts."""
        return self._ring.get()

    def enroll(self, commit: CommitBuilder, host: EnrolledHost, used: UsedNonce, seq: int) -> None:
        """Enroll a host, mark its token's nonce as used, and forget expired nonces."""
        for nonce, earlier in list(self.used_nonces.items()):
            if earlier.expires_at <= host.enrolled_at:
                self.used_nonces.discard(nonce)
                commit.write(RemoveUsedNonce(nonce))
        self.put_used_nonce(used)
        commit.write(PutUsedNonce(used, seq))
        commit.write(PutEnrolledHost(host, seq))
        self._use(commit, self.ring.with_host(host))

    def enroll_there(self, commit: CommitBuilder, host: EnrolledHost, seq: int) -> None:
        """Enroll a host that enrolled at the shard with the identities, which has its token."""
        commit.write(PutEnrolledHost(host, seq))
        self._use(commit, self.ring.with_host(host))

    def put_stored(self, hosts: Iterable[EnrolledHost], revoked: Iterable[Revocation]) -> None:
        """Set the enrolled hosts and the revocations to those loaded from the store."""
        ring = evolve(
            self.ring,
            enrolled=FrozenMap((host.hostname, host) for host in hosts),
            revoked=FrozenMap((revocation.hostname, revocation) for revocation in revoked),
        )
        self._ring.set(ring)

    def put_used_nonce(self, used: UsedNonce) -> None:
        """Mark a nonce as used."""
        self.used_nonces.set(used.nonce, used)

    def put_revocations(self, commit: CommitBuilder, revocations: Revocations, seq: int) -> None:
        """Replace all revocations."""
        self.revocations.set(revocations)
        ring = self.ring.with_revocations(revocations)
        commit.write(RemoveRevocations())
        for revocation in ring.revoked.values():
            commit.write(PutRevocation(revocation, seq))
        self._use(commit, ring)

    def name_by(self, commit: CommitBuilder, fleets: Mapping[str, FleetResolved]) -> None:
        """Take the hosts' declared keys from the latest signed fleet. fleets: those in force, by hash."""
        newest = max(
            fleets, key=lambda hash_: (str(fleets[hash_].meta.signed_at), hash_), default=""
        )
        if newest and newest != self._named_fleet.get().fleet_hash:
            self._named_fleet.set(NamedFleet(newest))
            self._use(commit, self.ring.with_fleet(fleets[newest]))

    def _use(self, commit: CommitBuilder, ring: KeyRing) -> None:
        self._ring.set(ring)
        commit.afterwards(UseKeys(ring))
