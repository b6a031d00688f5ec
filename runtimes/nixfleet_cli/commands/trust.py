"""`nixfleet trust`: the file that says whose signatures are believed, and what that means for files that are there."""

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import FILE, NEW_FILE, load_trust, now
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import (
    DecodeError,
    decode_signed_token,
    encode_trust_root,
    format_time,
)
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
)
from nixfleet_release.sign.verify import (
    AcceptedArtefact,
    ArtefactVerifier,
    RefusedArtefact,
    Verdict,
    is_artefact_name,
    verify_release,
)
from nixfleet_runtime.documents.problems import problem_report
from nixfleet_runtime.releases.directory import load_artefact
from nixfleet_runtime.releases.layout import ROLLOUTS_DIRECTORY

_trust_file = click.argument("file", metavar="FILE", type=FILE)
_slot = click.option(
    "--slot", type=click.Choice(list(Slot)), default=Slot.CI, show_default=True, help="Whose keys."
)
_new_key = click.option(
    "--to",
    "new",
    required=True,
    type=arguments.public_key,
    help="The new public key, or a file with it.",
)


@click.group()
def trust() -> None:
    """The trust file: whose signatures are believed. Every host and the control plane have it."""


@trust.command()
@click.argument("file", metavar="FILE", type=NEW_FILE)
@click.option(
    "--ci", required=True, type=arguments.public_key, help="The public key that signs releases."
)
@click.option("--org", type=arguments.public_key, help="The public key that lets hosts in.")
@click.option(
    "--operator",
    "operators",
    multiple=True,
    metavar="NAME=PUBLIC_KEY[:ROLE]",
    help="Somebody whose commands are obeyed; the role is read (if not given) or operate.",
)
def make(file: Path, ci: TrustedKey, org: TrustedKey | None, operators: tuple[str, ...]) -> None:
    """Make a trust file, FILE, which must not exist.

    Exit codes: 0 made; 1 there is something at FILE, or the keys do not go together; 2 it cannot be written.
    """
    root = TrustRoot(
        KeySlot(ci), None if org is None else KeySlot(org), tuple(map(_operator, operators))
    )
    _require_sound(file, root)
    try:
        with file.open("xb") as opened:
            opened.write(encode_trust_root(root))
    except FileExistsError as error:
        raise Findings(f"{file}: expected nothing there, found a file") from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error


@trust.command()
@_trust_file
@click.argument("artefacts", nargs=-1, type=click.Path(exists=True, path_type=Path))
@arguments.at_time
@arguments.freshness_minutes
def check(
    file: Path, artefacts: tuple[Path, ...], at_time: datetime, freshness_minutes: int
) -> None:
    """Check the trust file FILE, and whether each of ARTEFACTS is believed by it: files of a release, whole
    releases (directories), token files.

    Exit codes: 0 all is in order; 1 everything that is not; 2 something could not be read.
    """
    root = load_trust(file)
    problems = problems_of(root, at_time)
    verdict = Verdict()
    for path in artefacts:
        heard = _heard(path, root, at_time, freshness_minutes)
        verdict = Verdict(verdict.accepted + heard.accepted, verdict.refused + heard.refused)
    for line in (*_keys(root), *(_told(it, root) for it in verdict.accepted)):
        click.echo(line)
    findings = [problem_report(str(file), problems)] if problems else []
    findings += map(str, verdict.refused)
    if findings:
        raise Findings("\n".join(findings))


@trust.command()
@_trust_file
@_new_key
@_slot
def rotate(file: Path, new: TrustedKey, slot: Slot) -> None:
    """Believe a new key, and the one before it until it is retired.

    Exit codes: 0 done; 1 it makes no sense, and why; 2 FILE could not be read or written.
    """
    _change(file, lambda root: rotated(root, Slot(slot), new))


@trust.command()
@_trust_file
@_slot
def retire(file: Path, slot: Slot) -> None:
    """Believe the previous key no longer: the end of a rotation.

    Exit codes: 0 done; 1 there is none; 2 FILE could not be read or written.
    """
    _change(file, lambda root: retired(root, Slot(slot)))


@trust.command("compromised")
@_trust_file
@_new_key
@_slot
@click.option(
    "--reject-before",
    type=arguments.time,
    help="What was signed earlier is refused; now, if not given.",
)
def compromised_(file: Path, new: TrustedKey, slot: Slot, reject_before: datetime | None) -> None:
    """Believe a new key and no other, and nothing that was signed before a time.

    Exit codes: 0 done; 1 it makes no sense, and why; 2 FILE could not be read or written.
    """
    time = now() if reject_before is None else reject_before
    _change(file, lambda root: compromised(root, Slot(slot), new, time))


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


def _change(file: Path, change: Callable[[TrustRoot], TrustRoot]) -> None:
    try:
        root = change(load_trust(file))
        _require_sound(file, root)
        _replace(file, encode_trust_root(root))
    except (KeyChangeError, MalformedKey, UnsupportedAlgorithm) as error:
        raise Findings(f"{file}: {error}") from error
    except OSError as error:
        raise Unusable(f"{file}: {error.strerror}") from error
    for line in _keys(root):
        click.echo(line)


def _require_sound(file: Path, root: TrustRoot) -> None:
    problems = problems_of(root, datetime.max.replace(tzinfo=now().tzinfo))
    if problems:
        raise Findings(problem_report(str(file), problems))


def _replace(file: Path, content: bytes) -> None:
    mode = file.stat().st_mode
    with NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
    Path(new.name).chmod(mode)
    Path(new.name).replace(file)


def _heard(path: Path, root: TrustRoot, time: datetime, minutes: int) -> Verdict:
    try:
        if path.is_dir():
            release = load_release(path)
            return verify_release(release, root, time, freshness_window_minutes=minutes)
        for name in (path.name, f"{ROLLOUTS_DIRECTORY}/{path.name}"):
            if is_artefact_name(name):
                trial = ArtefactVerifier(root, time, minutes)
                trial.by_name(name, load_artefact(path))
                return trial.verdict
        return _heard_token(path, root, time)
    except (NotARelease, IncompleteRelease) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or path}: {error.strerror}") from error


def _heard_token(path: Path, root: TrustRoot, time: datetime) -> Verdict:
    try:
        token = verify_token(decode_signed_token(path.read_bytes()), root, time)
    except (DecodeError, VerifyError) as error:
        return Verdict(refused=(RefusedArtefact(str(path), str(error)),))
    keys = root.org_root_key
    assert keys is not None  # or it would not have been believed
    return Verdict(
        accepted=(AcceptedArtefact(str(path), keys.current.public_key, token.issued_at),)
    )


def _keys(root: TrustRoot) -> Iterator[str]:
    yield from _slot_lines("signs releases", root.ci_release_key)
    if root.org_root_key is not None:
        yield from _slot_lines("lets hosts in", root.org_root_key)
    for operator in root.operators:
        yield f"{operator.name}, an operator ({operator.role}): {operator.public_key.public_key}"


def _slot_lines(what: str, keys: KeySlot) -> Sequence[str]:
    lines = [f"{what}: {keys.current.public_key}"]
    if keys.previous is not None:
        lines.append(f"{what}, until it is retired: {keys.previous.public_key}")
    if keys.reject_before is not None:
        lines.append(f"{what}: nothing from before {format_time(keys.reject_before)}")
    return lines


def _told(it: AcceptedArtefact, root: TrustRoot) -> str:
    previous = root.ci_release_key.previous
    is_old = previous is not None and it.signed_by == previous.public_key
    note = " (the previous key: sign it anew before that is retired)" if is_old else ""
    return f"{it.name}: believed, signed {format_time(it.signed_at)}{note}"
