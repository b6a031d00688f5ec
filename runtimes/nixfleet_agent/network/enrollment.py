"""How this host becomes known: its key, the token that vouches for the key, and the request that brings both.

The key is made here and never leaves. What is wrong with a token is said before anybody is asked: the control
plane would refuse it too, but knows less about why.
Source: docs/spec/trust.md, Hosts; docs/spec/trust.md, Enrollment.
"""

from datetime import datetime
from pathlib import Path

from attrs import define, frozen

from nixfleet_proto.codec import decode_signed_token
from nixfleet_proto.enrollment import EnrollRequest, SignedToken
from nixfleet_proto.signing import SigningKey, VerifyError, fingerprint_of, verify_token
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem

NOT_KNOWN = frozenset({f"401 {TYPE_PREFIX}unknown-key", f"401 {TYPE_PREFIX}revoked-key"})
"""The kinds of `TransportFailed` that say that an enrollment is what is missing."""


class EnrollmentRefused(Exception):
    """The control plane does not take this host in; its problem says why. Asked again, it may answer otherwise."""

    def __init__(self, problem: HttpProblem) -> None:
        super().__init__(problem)
        self.problem = problem

    @property
    def kind(self) -> str:
        """What tells one reason from another."""
        return f"{self.problem.status} {self.problem.type}"

    def __str__(self) -> str:
        said = ": ".join(filter(None, (self.problem.title, self.problem.detail)))
        return f"the control plane refuses the enrollment ({self.problem.status}): {said}"


@define
class WrongToken(Exception):
    """The token cannot be for this host, or is not good; `problem` says why."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@frozen
class OwnKey:
    """The host's key. is_new: it was made just now."""

    key: SigningKey
    is_new: bool

    @property
    def fingerprint(self) -> str:
        """What a token for this host has to be made out to."""
        return fingerprint_of(self.key.public_key)


def own_key(file: Path) -> OwnKey:
    """Return the key in `file`; if there is no file, make one (0600), whole or not at all.

    Raises: InsecureKeyFile, MalformedKeyFile, OSError.
    """
    try:
        return OwnKey(SigningKey.load(file), is_new=False)
    except FileNotFoundError:
        key = SigningKey.generate()
    try:
        key.save(file)
    except FileExistsError:
        # Somebody else made one in this very moment: that is the one that counts.
        return OwnKey(SigningKey.load(file), is_new=False)
    return OwnKey(key, is_new=True)


def load_token(file: Path) -> SignedToken:
    """Return the token that `file` holds. Raises: DecodeError, OSError."""
    return decode_signed_token(file.read_bytes())


def enroll_request(
    token: SignedToken, hostname: str, own: OwnKey, trust: TrustRoot, now: datetime
) -> EnrollRequest:
    """Return the wish of `hostname` to be known by its key.

    Raises: WrongToken.
    """
    made_out_to = token.token
    if made_out_to.hostname != hostname:
        raise WrongToken(
            f"expected a token for {hostname}, found one for {made_out_to.hostname}: "
            "put this host's own token here, or correct hostname in the configuration"
        )
    if made_out_to.expected_pubkey_fingerprint.lower() != own.fingerprint:
        raise WrongToken(
            f"expected a token for the key with fingerprint {own.fingerprint}, "
            f"found one for {made_out_to.expected_pubkey_fingerprint}: mint one for the key that this host has"
        )
    # A host may be given a trust file without the org root key; the control plane checks in any case.
    if trust.org_root_key is not None:
        try:
            verify_token(token, trust, now)
        except VerifyError as error:
            raise WrongToken(f"the token for {hostname} is not good: {error}") from error
    return EnrollRequest(token, own.key.public_key.public_key)


def how_to_get_a_token(hostname: str, own: OwnKey, token_file: Path | None) -> str:
    """Return what an operator has to do to let this host in."""
    place = token_file or "this host, into a file that identity.bootstrap_token_file names"
    return (
        f"{hostname} is not enrolled and has no token. Where the org root key is kept, run\n"
        f"  nixfleet token mint --key ORG_ROOT_KEY --hostname {hostname} --fingerprint {own.fingerprint}\n"
        f"and bring the token to {place}"
    )
