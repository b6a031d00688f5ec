"""Checks who said what in a log: each report of a host by the key that it had then, and each key by who gave it.

A host's key comes from a fleet that CI signed, or from an enrollment with a token that the org root key signed. A
control plane holds none of these keys, so a report that it made up, and a host that it enrolled by itself, are found.
So is a report that stands in the log twice or under another rollout, and an earlier list that was put back in force.
Rows of format 1 of the log do not have what was signed: they are counted.
Source: docs/spec/log.md, What a host reports.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

import orjson
from attrs import define, evolve, frozen

from nixfleet_control_plane.history.approvals import EarlierTrust
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    FactRefused,
    FactReported,
    FactsReported,
    HostEnrolled,
    LoggedEntry,
)
from nixfleet_proto.codec import DecodeError, decode_fleet, decode_revocations
from nixfleet_proto.enrollment import Revocations
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.signing import (
    VerifyError,
    canonical_form,
    fingerprint_of,
    read_public_key,
    require_token_signed,
    verify_payload,
)
from nixfleet_proto.signing.artefact import signer_of
from nixfleet_proto.signing.payload import signature_bytes
from nixfleet_proto.trust import TrustedKey, TrustRoot
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.http.signing.refusal import RevokedKey
from nixfleet_runtime.releases.acceptance import list_objection
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE

ON_ITS_WAY: Final = timedelta(seconds=60)
"""How long after a host changed its key a report may be logged that it signed with the one before."""

_MARK_LENGTH: Final = 16
"""So many bytes of a signature are enough to know it again, in a log of millions."""


@frozen
class SignatureProblem:
    """What is wrong with row `seq`."""

    seq: int
    problem: str


@frozen
class SignaturesReport:
    """How many facts are proved to be their hosts', how many rows cannot be, and what is wrong.

    unsigned: facts of hosts that have no key, as in one process. earlier: those in rows of format 1.
    """

    proved: int
    unsigned: int
    earlier: int
    problems: tuple[SignatureProblem, ...]


def check_signatures(
    entries: Iterable[LoggedEntry], trust: TrustRoot, earlier: Iterable[EarlierTrust] = ()
) -> SignaturesReport:
    """Return what is wrong with the signatures in a log.

    trust, earlier: as of `check_approvals`: a row is checked with the trust file of its time.
    """
    reader = _Reader(trust, earlier)
    for logged in entries:
        reader.read(logged)
    return SignaturesReport(
        reader.proved, reader.unsigned, reader.earlier_rows, tuple(reader.problems)
    )


@define
class _Signer:
    """A host's key in force, the one before, and until when a report with that one may be logged.

    is_over: the key is in force no more. A revoked key is not one that a report on its way may have.
    """

    key: TrustedKey
    before: TrustedKey | None
    until: datetime
    is_over: bool = False


class _Older(Exception):
    """An artefact was signed before the one in force. Its text says what was expected."""


class _Reader:
    def __init__(self, trust: TrustRoot, earlier: Iterable[EarlierTrust]) -> None:
        self._newest = trust
        self._earlier = sorted(earlier, key=lambda each: each.until)
        self._ring = KeyRing()
        self._signers: dict[str, _Signer] = {}
        # By host, the last row with what was signed: one that continues it has the facts that are left.
        self._signed: dict[str, tuple[int, FactsReported]] = {}
        # By host and rollout, the last fact; by the first bytes of a signature, the last fact of what it signed.
        self._last_facts: dict[tuple[str, str], int] = {}
        self._last_signed: dict[bytes, int] = {}
        self._fleet_order: tuple[str, str] | None = None
        self._revocations: Revocations | None = None
        self.proved = self.unsigned = self.earlier_rows = 0
        self.problems: list[SignatureProblem] = []

    def read(self, logged: LoggedEntry) -> None:
        """Take the next row of the log."""
        seq, at, entry = logged.seq, logged.at, logged.entry
        match entry:
            case FactsReported():
                self._report(seq, at, entry)
            case FactReported() | FactRefused():
                self.earlier_rows += 1
                self._last_facts[entry.host, entry.rollout_id] = entry.fact.seq
            case HostEnrolled():
                self._enroll(seq, at, entry)
            case ArtefactTaken(rollout_id=None):
                self._take(seq, at, entry)
            case _:
                pass

    def _report(self, seq: int, at: datetime, entry: FactsReported) -> None:
        if entry.signature is None and self._is_without_key(entry.host):
            self.unsigned += len(entry.facts)
            return
        if entry.continues is not None:
            problem = self._objection_to_rest(entry)
        else:
            problem = self._objection_to_report(at, entry)
            self._signed[entry.host] = seq, entry
        if problem is None:
            problem = _objection_to_place(entry) or self._objection_to_repetition(entry)
        if problem is None:
            self.proved += len(entry.facts)
        else:
            self._note(seq, f"the report of {entry.host} is not proved: {problem}")

    def _objection_to_report(self, at: datetime, entry: FactsReported) -> str | None:
        """Return why the host did not say this; `None`: it did."""
        try:
            keys = list(self._keys_of(entry.host, at))
        except RevokedKey as error:
            return str(error)
        if not keys:
            return "no signed fleet declares a key for it, and it never enrolled"
        refusals = list[str]()
        for key in keys:
            try:
                verify_payload(entry.payload.encode(), entry.signature, key)
            except VerifyError as error:
                refusals.append(str(error))
            else:
                return None
        return refusals[0]

    def _objection_to_rest(self, entry: FactsReported) -> str | None:
        """Return why a row does not have facts of the row that it continues; `None`: it does."""
        seq, before = self._signed.get(entry.host, (None, None))
        if before is None or seq != entry.continues or before.rollout_id != entry.rollout_id:
            return f"row {entry.continues}, which it continues, is not the host's last report"
        said = list(_facts_in(before.payload))
        left = [fact for fact in _facts_in(entry.payload) if fact not in said]
        return (
            f"row {entry.continues}, which it continues, does not have {left[0]}" if left else None
        )

    def _objection_to_repetition(self, entry: FactsReported) -> str | None:
        """Return why the host's facts cannot be new; `None`: they can be, and are noted.

        A host that lost its journal may begin at 1 again, with other facts: not with what it signed before.
        """
        about, first, last = (entry.host, entry.rollout_id), entry.facts[0].seq, entry.facts[-1].seq
        mark = bytes.fromhex(entry.signature or "")[:_MARK_LENGTH]
        known = self._last_signed.get(mark, 0) if mark else 0
        if first > 1:
            known = max(known, self._last_facts.get(about, 0))
        if first <= known:
            return f"expected facts after {known}, which were reported before, found {first}"
        self._last_facts[about] = last
        if mark:
            self._last_signed[mark] = last
        return None

    def _is_without_key(self, host: str) -> bool:
        return host not in self._signers

    def _keys_of(self, host: str, at: datetime) -> Iterator[TrustedKey]:
        key = self._ring.key_of(host_key_id(host))
        if key is not None:
            yield key
        signer = self._signers.get(host)
        if signer is not None and signer.before is not None and at <= signer.until:
            yield signer.before

    def _enroll(self, seq: int, at: datetime, entry: HostEnrolled) -> None:
        token = entry.token.token
        key = read_public_key(entry.public_key)
        try:
            require_token_signed(entry.token, self._trust_at(at))
            found = None if key is None else fingerprint_of(key)
        except VerifyError as error:
            self._note(seq, f"the enrollment of {token.hostname} is not proved: {error}")
            return
        if key is None or found != token.expected_pubkey_fingerprint.lower():
            expected = token.expected_pubkey_fingerprint
            problem = f"its token is for the key with fingerprint {expected}, found {found}"
            self._note(seq, f"the enrollment of {token.hostname} is not proved: {problem}")
            return
        self._use(self._ring.with_host(EnrolledHost(token.hostname, key, at)), at)

    def _take(self, seq: int, at: datetime, entry: ArtefactTaken) -> None:
        """Take a fleet, or the list of revocations, if CI signed it. The list of nonces gives no key."""
        if entry.name == NONCES_FILE:
            return
        body = entry.body.encode()
        try:
            signature = signature_bytes(entry.signature)
            signer_of(canonical_form(body), signature, self._trust_at(at).ci_release_key)
            if entry.name == REVOCATIONS_FILE:
                ring = self._with_revocations(decode_revocations(body))
            else:
                ring = self._with_fleet(entry.name, decode_fleet(body))
        except (DecodeError, InvalidValue, VerifyError, _Older) as error:
            self._note(seq, f"{entry.name} gives no host a key: {error}")
        else:
            self._use(ring, at)

    def _with_revocations(self, revocations: Revocations) -> KeyRing:
        """Return the ring after a signed list. Raises: _Older, if the one in force was signed later."""
        before, signed_at = self._revocations, revocations.meta.signed_at
        in_force_at = None if before is None else before.meta.signed_at
        objection = None if signed_at is None else list_objection(signed_at, in_force_at)
        if objection is not None:
            raise _Older(objection)
        self._revocations = revocations
        return self._ring.with_revocations(revocations)

    def _with_fleet(self, name: str, fleet: FleetResolved) -> KeyRing:
        """Return the ring after a signed fleet: as it is, if a fleet that was signed later is in force."""
        order = str(fleet.meta.signed_at), name
        if self._fleet_order is not None and order < self._fleet_order:
            return self._ring
        self._fleet_order = order
        return self._ring.with_fleet(fleet)

    def _use(self, ring: KeyRing, at: datetime) -> None:
        """Let `ring` be in force, and remember for a moment which keys hosts had before."""
        hosts = {*ring.enrolled, *ring.fleet_keys, *self._signers}
        self._ring = ring
        for host in hosts:
            try:
                key = ring.key_of(host_key_id(host))
            except RevokedKey:
                key = None
            before = self._signers.get(host)
            if key is None:
                if (
                    before is not None
                ):  # Revoked, or declared no more: no report with it is on its way.
                    self._signers[host] = evolve(before, is_over=True, before=None)
            elif before is None or before.is_over or before.key != key:
                last = None if before is None or before.is_over else before.key
                self._signers[host] = _Signer(key, last, at + ON_ITS_WAY)

    def _trust_at(self, at: datetime) -> TrustRoot:
        for before in self._earlier:
            if at < before.until:
                return before.trust
        return self._newest

    def _note(self, seq: int, problem: str) -> None:
        self.problems.append(SignatureProblem(seq, problem))


def _objection_to_place(entry: FactsReported) -> str | None:
    """Return why what was signed does not belong into the row; `None`: it is about its host and its rollout."""
    said = orjson.loads(entry.payload)
    for envelope in said.get("events", (said,)):
        found = envelope.get("hostname"), envelope.get("rolloutId")
        if found != (entry.host, entry.rollout_id):
            return f"expected facts about {entry.rollout_id}, as the row says, found {found[1]} of {found[0]}"
    return None


def _facts_in(payload: str) -> Iterator[JsonValue]:
    """Yield the facts of an envelope or a batch, as JSON."""
    said = orjson.loads(payload)
    for envelope in said.get("events", (said,)):
        yield envelope["event"]
