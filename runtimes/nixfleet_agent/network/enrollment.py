"""Enrollment data of this host: its key, the token that vouches for the key, and the request with both.

The key is generated here and never leaves the host. A token is checked before it is sent: the control plane would
refuse a wrong one too, but can say less about the reason.
Source: docs/spec/trust.md, Hosts; docs/spec/trust.md, Enrollment.
"""

from datetime import datetime
from pathlib import Path

from attrs import define, frozen

from nixfleet_proto.codec import decode_signed_token
from nixfleet_proto.enrollment import EnrollRequest, SignedToken
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.signing import SigningKey, VerifyError, fingerprint_of, verify_token
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem
from nixfleet_runtime.storage.regular_file import read_regular_file

NOT_KNOWN = frozenset({f"401 {TYPE_PREFIX}unknown-key", f"401 {TYPE_PREFIX}revoked-key"})
"""The kinds of `TransportFailed` that mean: this host must enroll."""


class EnrollmentRefused(NixfleetError):
    """The control plane refused the enrollment; `problem` says why. A later request may succeed."""

    def __init__(self, problem: HttpProblem) -> None:
        super().__init__(problem)
        self.problem = problem

    @property
    def kind(self) -> str:
        """Tells reasons apart: status and problem type."""
        return f"{self.problem.status} {self.problem.type}"

    def __str__(self) -> str:
        reason = ": ".join(filter(None, (self.problem.title, self.problem.detail)))
        return f"the control plane refuses the enrollment ({self.problem.status}): {reason}"


@define
class WrongToken(NixfleetError):
    """The token is for another host or key, or is not valid; `problem` says why."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@frozen
class OwnKey:
    """The host's key. is_new: whether it was generated just now."""

    key: SigningKey
    is_new: bool

    @property
    def fingerprint(self) -> str:
        """The fingerprint that a token for this host must name."""
        return fingerprint_of(self.key.public_key)


def own_key(file: Path) -> OwnKey:
    """Return the key in `file`; without a file, generate one (mode 0600, written atomically).

    Raises: InsecureKeyFile, MalformedKeyFile, OSError.
    """
    try:
        return OwnKey(SigningKey.load(file), is_new=False)
    except FileNotFoundError:
        key = SigningKey.generate()
    try:
        key.save(file)
    except FileExistsError:
        # Another process generated one at the same time: that one counts.
        return OwnKey(SigningKey.load(file), is_new=False)
    return OwnKey(key, is_new=True)


def load_token(file: Path) -> SignedToken:
    """Return the token in `file`. Raises: DecodeError, OSError."""
    return decode_signed_token(read_regular_file(file))


def enroll_request(
    token: SignedToken, hostname: str, own: OwnKey, trust: TrustRoot, now: datetime
) -> EnrollRequest:
    """Return the request to enroll `hostname` with its key.

    Raises: WrongToken.
    """
    issued_to = token.token
    if issued_to.hostname != hostname:
        raise WrongToken(
            f"expected a token for {hostname}, found one for {issued_to.hostname}: "
            "put this host's own token here, or correct hostname in the configuration"
        )
    if issued_to.expected_pubkey_fingerprint.lower() != own.fingerprint:
        raise WrongToken(
            f"expected a token for the key with fingerprint {own.fingerprint}, "
            f"found one for {issued_to.expected_pubkey_fingerprint}: mint one for this host's key"
        )
    # A host may be given a trust file without the org root key; the control plane checks the token in any case.
    if trust.org_root_key is not None:
        try:
            verify_token(token, trust, now)
        except VerifyError as error:
            raise WrongToken(f"the token for {hostname} is not valid: {error}") from error
    return EnrollRequest(token, own.key.public_key.public_key)


def mint_command(hostname: str, own: OwnKey) -> str:
    """Return the command that makes a token for this host, where the org root key is kept."""
    return f"nixfleet token mint --key ORG_ROOT_KEY --hostname {hostname} --fingerprint {own.fingerprint}"


def how_to_get_a_token(hostname: str, own: OwnKey, token_file: Path | None) -> str:
    """Return the instructions for an operator to enroll this host."""
    place = token_file or "this host, into a file that identity.bootstrap_token_file names"
    return (
        f"{hostname} is not enrolled and has no token. Where the org root key is kept, run\n"
        f"  {mint_command(hostname, own)}\n"
        f"and bring the token to {place}"
    )
