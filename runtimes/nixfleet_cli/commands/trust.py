"""`nixfleet trust`: the trust file, and which files it accepts."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import click

from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import FILE, NEW_FILE, load_trust, now
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing, shown_time
from nixfleet_proto.codec import (
    DecodeError,
    decode_signed_token,
    encode_trust_root,
)
from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.signing import (
    MalformedKey,
    UnsupportedAlgorithm,
    VerifyError,
    verify_token,
)
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustedKey, TrustRoot
from nixfleet_release import IncompleteRelease, NotARelease, load_release
from nixfleet_release.sign.trust_file import (
    KeyChangeError,
    Slot,
    compromised,
    problems_of,
    retired,
    rotated,
    with_operator,
    without_operator,
)
from nixfleet_release.sign.verify import (
    AcceptedArtefact,
    ArtefactVerifier,
    RefusedArtefact,
    Verdict,
    is_artefact_name,
    verify_release,
)
from nixfleet_runtime.documents.problems import Problem, problem_report
from nixfleet_runtime.releases.directory import load_artefact
from nixfleet_runtime.releases.layout import ROLLOUTS_DIRECTORY
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.storage.replaced_file import replace_file

_trust_file = click.argument("file", metavar="FILE", type=FILE)
_slot = click.option(
    "--slot",
    type=click.Choice([each.value for each in Slot]),
    default=Slot.CI.value,
    show_default=True,
    help="Which key.",
)
_KEYS_SHAPE = "one object with keys (current, previous, rejectBefore) and operators"
_new_key = click.option(
    "--to",
    "new",
    required=True,
    metavar="PUBLIC_KEY",
    type=arguments.public_key,
    help="The new public key, or a file with it.",
)


@group()
def trust() -> None:
    """Make, change and check the trust file.

    It lists the keys whose signatures are accepted. Every host and the control plane have a copy.
    """


@trust.command()
@click.argument("file", metavar="FILE", type=NEW_FILE)
@click.option(
    "--ci",
    required=True,
    metavar="PUBLIC_KEY",
    type=arguments.public_key,
    help="The key that signs releases, or a file with it.",
)
@click.option(
    "--org",
    metavar="PUBLIC_KEY",
    type=arguments.public_key,
    help="The key that signs bootstrap tokens, or a file with it.",
)
@click.option(
    "--operator",
    "operators",
    multiple=True,
    metavar="NAME=PUBLIC_KEY[:ROLE]",
    help="An operator, with role read (the default) or operate; repeatable.",
)
def make(file: Path, ci: TrustedKey, org: TrustedKey | None, operators: tuple[str, ...]) -> None:
    """Make a trust file.

    FILE must not exist. Prints nothing.

    Exit codes: 0 success; 1 FILE exists already, or the keys conflict; 2 it cannot be written.
    """
    named = tuple(map(_operator, operators))
    try:
        root = TrustRoot(KeySlot(ci), None if org is None else KeySlot(org), named)
    except InvalidValue as error:
        raise _conflicting(file, error) from error
    _require_sound(file, root)
    try:
        with file.open("xb") as opened:
            opened.write(encode_trust_root(root))
    except FileExistsError as error:
        raise Findings(f"{file}: expected no file, found one; it is not overwritten") from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error


@trust.command()
@_trust_file
@click.argument("artefacts", nargs=-1, type=click.Path(exists=True, path_type=Path))
@arguments.at_time
@arguments.freshness_minutes
@printing(
    "one object with keys, operators, problems (path, text), accepted (name, signedBy, signedAt) and "
    "refused (name, why)"
)
def check(
    output: Output,
    file: Path,
    artefacts: tuple[Path, ...],
    at_time: datetime,
    freshness_minutes: int | None,
) -> None:
    """Check a trust file, and signed files against it.

    FILE is the trust file. ARTEFACTS are files of a release, whole releases (directories), or bootstrap tokens.

    Exit codes: 0 all are accepted; 1 some are not, with every reason; 2 a file cannot be read.
    """
    root = load_trust(file)
    problems = problems_of(root, at_time)
    verdict = Verdict()
    for path in artefacts:
        found = _verdict_on(path, root, at_time, freshness_minutes)
        verdict = Verdict(verdict.accepted + found.accepted, verdict.refused + found.refused)
    output.show(
        {
            **_keys_value(root),
            "problems": [{"path": each.path, "text": str(each)} for each in problems],
            **verdict_value(verdict),
        },
        [*_keys(root), *(_accepted(each, root) for each in verdict.accepted)],
    )
    findings = _problem_lines(file, problems)
    findings += map(str, verdict.refused)
    if findings:
        raise Findings(*findings)


@trust.command()
@_trust_file
@_new_key
@_slot
@printing(_KEYS_SHAPE)
def rotate(output: Output, file: Path, new: TrustedKey, slot: Slot) -> None:
    """Accept a new key beside the current one.

    The current key becomes the previous one, which is accepted until it is retired.

    Exit codes: 0 success; 1 refused, and why; 2 FILE cannot be read or written.
    """
    _change(output, file, lambda root: rotated(root, Slot(slot), new))


@trust.command()
@_trust_file
@_slot
@printing(_KEYS_SHAPE)
def retire(output: Output, file: Path, slot: Slot) -> None:
    """Remove the previous key: the end of a rotation.

    Exit codes: 0 success; 1 there is none; 2 FILE cannot be read or written.
    """
    _change(output, file, lambda root: retired(root, Slot(slot)))


@trust.command("compromised")
@_trust_file
@_new_key
@_slot
@click.option(
    "--reject-before",
    metavar="TIME",
    type=arguments.time,
    help="Refuse what was signed earlier; default: now.",
)
@printing(_KEYS_SHAPE)
def compromised_(
    output: Output, file: Path, new: TrustedKey, slot: Slot, reject_before: datetime | None
) -> None:
    """Replace a compromised key.

    Accepts the new key and no other, and nothing that was signed before a time.

    Exit codes: 0 success; 1 refused, and why; 2 FILE cannot be read or written.
    """
    time = now() if reject_before is None else reject_before
    _change(output, file, lambda root: compromised(root, Slot(slot), new, time))


@trust.command("add-operator")
@_trust_file
@click.argument("name", metavar="NAME")
@click.argument("public_key", metavar="PUBLIC_KEY", type=arguments.public_key)
@click.option(
    "--role",
    type=click.Choice([each.value for each in OperatorRole]),
    default=OperatorRole.READ.value,
    show_default=True,
    help="What the operator may do.",
)
@printing(_KEYS_SHAPE)
def add_operator(output: Output, file: Path, name: str, public_key: TrustedKey, role: str) -> None:
    """Add an operator to the trust file.

    NAME is what the operator signs requests with. PUBLIC_KEY is a key, or a file with it. A running control plane reads
    the changed file by itself, or at SIGHUP.

    Exit codes: 0 success; 1 refused, and why; 2 FILE cannot be read or written.
    """
    operator = Operator(name, public_key, OperatorRole(role))
    _change(output, file, lambda root: with_operator(root, operator))


@trust.command("remove-operator")
@_trust_file
@click.argument("name", metavar="NAME")
@printing(_KEYS_SHAPE)
def remove_operator(output: Output, file: Path, name: str) -> None:
    """Remove the operator NAME from the trust file.

    A running control plane reads the changed file by itself, or at SIGHUP.

    Exit codes: 0 success; 1 there is no such operator; 2 FILE cannot be read or written.
    """
    _change(output, file, lambda root: without_operator(root, name))


@trust.command("list")
@_trust_file
@printing(_KEYS_SHAPE)
def list_(output: Output, file: Path) -> None:
    """List the keys and operators of the trust file.

    Exit codes: 0 success; 1 FILE is not a trust file; 2 it cannot be read.
    """
    root = load_trust(file)
    output.show(_keys_value(root), _keys(root))


def _operator(text: str) -> Operator:
    name, equals, rest = text.partition("=")
    key, colon, role = rest.rpartition(":")
    try:
        found = OperatorRole(role) if colon else OperatorRole.READ
    except ValueError as error:
        expected = " or ".join(OperatorRole)
        raise click.BadParameter(f"expected the role {expected}, found {role!r}") from error
    if not name or not equals:
        raise click.BadParameter(f"expected NAME=PUBLIC_KEY[:ROLE], found {text!r}")
    return Operator(name, arguments.public_key(key if colon else rest), found)


def _change(output: Output, file: Path, change: Callable[[TrustRoot], TrustRoot]) -> None:
    try:
        root = change(load_trust(file))
        _require_sound(file, root)
        replace_file(file, encode_trust_root(root))
    except (KeyChangeError, MalformedKey, UnsupportedAlgorithm) as error:
        raise Findings(*lines_of(error, file)) from error
    except InvalidValue as error:
        raise _conflicting(file, error) from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
    output.show(_keys_value(root), _keys(root))


def _conflicting(file: Path, error: InvalidValue) -> Findings:
    """Return the refusal of operators of which two have one name or one key."""
    return Findings(*(f"{file}: {problem}" for problem in error.problems))


def _require_sound(file: Path, root: TrustRoot) -> None:
    problems = problems_of(root, datetime.max.replace(tzinfo=now().tzinfo))
    if problems:
        raise Findings(*_problem_lines(file, problems))


def _problem_lines(file: Path, problems: Collection[Problem]) -> list[str]:
    text = problem_report(str(file), problems)
    listed = [f"  {each}" for each in problems]
    heading = text.removesuffix("".join(f"\n{line}" for line in listed))
    return [heading, *listed] if problems else []


def _verdict_on(path: Path, root: TrustRoot, time: datetime, minutes: int | None) -> Verdict:
    try:
        if path.is_dir():
            release = load_release(path)
            return verify_release(release, root, time, freshness_window_minutes=minutes)
        for name in (path.name, f"{ROLLOUTS_DIRECTORY}/{path.name}"):
            if is_artefact_name(name):
                verifier = ArtefactVerifier(root, time, minutes)
                verifier.by_name(name, load_artefact(path))
                return verifier.verdict
        return _verdict_on_token(path, root, time)
    except (NotARelease, IncompleteRelease) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or path}: {error.strerror}") from error


def _verdict_on_token(path: Path, root: TrustRoot, time: datetime) -> Verdict:
    try:
        token = verify_token(decode_signed_token(read_regular_file(path)), root, time)
    except (DecodeError, VerifyError) as error:
        return Verdict(refused=(RefusedArtefact(str(path), str(error)),))
    keys = root.org_root_key
    assert keys is not None  # verify_token refuses every token without it
    return Verdict(
        accepted=(AcceptedArtefact(str(path), keys.current.public_key, token.issued_at),)
    )


def _keys(root: TrustRoot) -> Iterator[str]:
    yield from _slot_lines("CI release key", root.ci_release_key)
    if root.org_root_key is not None:
        yield from _slot_lines("org root key", root.org_root_key)
    for operator in root.operators:
        yield f"operator {operator.name} ({operator.role}): {operator.public_key.public_key}"


def _slot_lines(what: str, keys: KeySlot) -> Sequence[str]:
    lines = [f"{what}: {keys.current.public_key}"]
    if keys.previous is not None:
        lines.append(f"{what}, previous: {keys.previous.public_key}")
    if keys.reject_before is not None:
        lines.append(f"{what}: refuses what was signed before {shown_time(keys.reject_before)}")
    return lines


def _accepted(accepted: AcceptedArtefact, root: TrustRoot) -> str:
    previous = root.ci_release_key.previous
    is_old = previous is not None and accepted.signed_by == previous.public_key
    note = " by the previous key: sign it again before that key is retired" if is_old else ""
    return f"{accepted.name}: accepted, signed {shown_time(accepted.signed_at)}{note}"


def verdict_value(verdict: Verdict) -> dict[str, object]:
    """Return what was accepted and what was refused as JSON has it."""
    return {
        "accepted": [
            {"name": each.name, "signedBy": each.signed_by, "signedAt": each.signed_at}
            for each in verdict.accepted
        ],
        "refused": [{"name": each.name, "why": each.why} for each in verdict.refused],
    }


def _keys_value(root: TrustRoot) -> dict[str, object]:
    return {
        "keys": {
            slot.value: None
            if keys is None
            else {
                "current": keys.current.public_key,
                "previous": None if keys.previous is None else keys.previous.public_key,
                "rejectBefore": keys.reject_before,
            }
            for slot, keys in ((Slot.CI, root.ci_release_key), (Slot.ORG, root.org_root_key))
        },
        "operators": [
            {
                "name": each.name,
                "role": each.role,
                "publicKey": each.public_key.public_key,
            }
            for each in root.operators
        ],
    }
