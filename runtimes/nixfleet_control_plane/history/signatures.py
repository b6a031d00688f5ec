"""Checks who said what in a log: each report of a host by the key that it had then, and each key by who gave it.

A host's key comes from a fleet that CI signed, or from an enrollment with a token that the org root key signed. A
control plane holds none of these keys, so a report that it made up, and a host that it enrolled by itself, are found.
Rows of format 1 of the log do not have what was signed: they are counted.
Source: docs/spec/log.md, What a host reports.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

import orjson
from attrs import define, frozen

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
from nixfleet_proto.errors import InvalidValue
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
from nixfleet_runtime.releases.layout import NONCES_FILE, REVOCATIONS_FILE

ON_ITS_WAY: Final = timedelta(seconds=60)
"""How long after a host changed its key a report may be logged that it signed with the one before."""


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
    """A host's key in force, the one before, and until when a report with that one may be logged."""

    key: TrustedKey
    before: TrustedKey | None
    until: datetime


class _Reader:
    def __init__(self, trust: TrustRoot, earlier: Iterable[EarlierTrust]) -> None:
        self._newest = trust
        self._earlier = sorted(earlier, key=lambda each: each.until)
        self._ring = KeyRing()
        self._signers: dict[str, _Signer] = {}
        # By host, the last row with what was signed: one that continues it has the facts that are left.
        self._signed: dict[str, tuple[int, FactsReported]] = {}
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
                ring = self._ring.with_revocations(decode_revocations(body))
            else:
                ring = self._ring.with_fleet(decode_fleet(body))
        except (DecodeError, InvalidValue, VerifyError) as error:
            self._note(seq, f"{entry.name} gives no host a key: {error}")
        else:
            self._use(ring, at)

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
            if key is not None and (before is None or before.key != key):
                last = None if before is None else before.key
                self._signers[host] = _Signer(key, last, at + ON_ITS_WAY)

    def _trust_at(self, at: datetime) -> TrustRoot:
        for before in self._earlier:
            if at < before.until:
                return before.trust
        return self._newest

    def _note(self, seq: int, problem: str) -> None:
        self.problems.append(SignatureProblem(seq, problem))


def _facts_in(payload: str) -> Iterator[JsonValue]:
    """Yield the facts of an envelope or a batch, as JSON."""
    said = orjson.loads(payload)
    for envelope in said.get("events", (said,)):
        yield envelope["event"]
