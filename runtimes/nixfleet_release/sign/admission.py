"""Revocations and enrollment nonces: the file that an operator writes, and the lists signed with a release.

    [[revocations]]                       [[nonces]]
    hostname = "web-03"                   nonce = "5f0c..."
    not_before = 2026-05-16T02:00:00Z     hostname = "web-04"
    reason = "disk stolen"                expires_at = 2026-05-17T00:00:00Z

Nonces are also read from token files, so they need not be written twice. No clock: `now` is an argument.
Source: docs/spec/trust.md, Enrollment; docs/spec/trust.md, Revocations.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from attrs import evolve, frozen

from nixfleet_proto.codec import DecodeError, decode_signed_token
from nixfleet_proto.enrollment import (
    BootstrapNonce,
    BootstrapNonces,
    Revocation,
    Revocations,
    SignedToken,
)
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.signing import (
    TokenExpired,
    VerifyError,
    fingerprint_of,
    read_public_key,
    verify_token,
)
from nixfleet_proto.trust import TrustRoot
from nixfleet_release.errors import AdmissionError
from nixfleet_runtime.documents.problems import DUPLICATE, Problem, at, quoted, unknown
from nixfleet_runtime.documents.tables import Document, Table, read_toml
from nixfleet_runtime.storage.regular_file import read_regular_file


@frozen
class Admission:
    """Hosts whose keys are revoked, and nonces that are valid for one enrollment each."""

    revocations: tuple[Revocation, ...] = ()
    nonces: tuple[BootstrapNonce, ...] = ()

    def revocations_as_of(self, meta: Meta) -> Revocations:
        """Return the list of revocations, sorted by host name."""
        in_order = sorted(self.revocations, key=lambda revocation: revocation.hostname)
        return Revocations(tuple(in_order), meta)

    def nonces_as_of(self, meta: Meta, now: datetime) -> BootstrapNonces:
        """Return the list of nonces, sorted, without those that have expired at `now`."""
        valid = (nonce for nonce in self.nonces if nonce.expires_at > now)
        return BootstrapNonces(tuple(sorted(valid, key=lambda nonce: nonce.nonce)), meta)


def read_admission(
    file: Path | None,
    tokens: Path | None = None,
    token_objection: Callable[[SignedToken], str | None] = lambda _: None,
) -> Admission:
    """Return the entries of `file` (TOML), and the nonces of all `*.json` token files in `tokens`.

    token_objection: returns why a token would be refused, which is a problem; `None`: it would not.
    Raises: AdmissionError, with every problem; OSError.
    """
    admission, problems = _read(file) if file is not None else (Admission(), [])
    for token_file in sorted(tokens.glob("*.json")) if tokens is not None else ():
        try:
            signed_token = decode_signed_token(read_regular_file(token_file))
        except DecodeError as error:
            problems.extend(
                Problem(
                    f"{token_file}: {each.path}", "not a bootstrap token", each.expected, each.found
                )
                for each in error.problems
            )
            continue
        objection, token = token_objection(signed_token), signed_token.token
        if objection is not None:
            expected = "a token that a control plane would accept"
            problems.append(Problem(str(token_file), "refused", expected, objection))
            continue
        nonce = BootstrapNonce(token.nonce, token.hostname, token.expires_at)
        if nonce not in admission.nonces:
            admission = evolve(admission, nonces=(*admission.nonces, nonce))
    revoked = (revocation.hostname for revocation in admission.revocations)
    problems.extend(_repetitions("revocations", revoked))
    problems.extend(_repetitions("nonces", (nonce.nonce for nonce in admission.nonces)))
    if problems:
        raise AdmissionError(problems)
    return admission


def objection_to_token(
    signed_token: SignedToken, fleet: FleetResolved, trust: TrustRoot, now: datetime
) -> str | None:
    """Return why no host of `fleet` could enroll with a token; `None` if one could. Expired tokens are left out.

    Source: docs/spec/trust.md, Enrollment.
    """
    try:
        verify_token(signed_token, trust, now)
    except TokenExpired:
        return None
    except VerifyError as error:
        return str(error)
    token = signed_token.token
    host = fleet.hosts.get(token.hostname)
    if host is None:
        return f"no host {token.hostname!r} in the fleet"
    declared = None if host.pubkey is None else read_public_key(host.pubkey)
    if declared is not None and fingerprint_of(declared) != token.expected_pubkey_fingerprint:
        return (
            f"a token for another key than the pubkey that the fleet declares for {token.hostname}"
        )
    return None


def require_known_hosts(admission: Admission, fleet: FleetResolved) -> None:
    """Require that every nonce is for a host of `fleet`. A revocation may outlive its host. Raises: AdmissionError."""
    problems = [
        unknown(at("nonces", nonce.nonce), "host", nonce.hostname, fleet.hosts)
        for nonce in admission.nonces
        if nonce.hostname not in fleet.hosts
    ]
    if problems:
        raise AdmissionError(problems)


def _read(file: Path) -> tuple[Admission, list[Problem]]:
    content = read_toml(file)
    if isinstance(content, Problem):
        return Admission(), [content]
    document = Document(content)
    admission = Admission(
        tuple(map(_revocation, document.root.array("revocations"))),
        tuple(map(_nonce, document.root.array("nonces"))),
    )
    return admission, [*document.problems, *document.unknown_keys()]


def _revocation(table: Table) -> Revocation:
    return Revocation(
        table.text("hostname"), table.instant("not_before"), table.optional_text("reason")
    )


def _nonce(table: Table) -> BootstrapNonce:
    return BootstrapNonce(table.text("nonce"), table.text("hostname"), table.instant("expires_at"))


def _repetitions(key: str, names: Iterable[str]) -> Iterator[Problem]:
    for name, count in sorted(Counter(names).items()):
        if name and count > 1:
            yield Problem(at(key, name), DUPLICATE, "one entry", f"{quoted(name)} {count} times")
