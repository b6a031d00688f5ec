"""`nixfleet release`: from a declaration and closures to signed files, and what they will do to whom."""

import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path

import click
from attrs import frozen

from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import DIRECTORY, FILE, load_key, load_trust, now
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_proto.codec import DecodeError, HealthCheckSet, format_time
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_proto.signing import Signer
from nixfleet_proto.trust import TrustedKey, TrustRoot
from nixfleet_release import (
    AdmissionError,
    CheckedFleet,
    DeclarationError,
    IncompleteRelease,
    LeadsOutside,
    NotARelease,
    Release,
    add_closures,
    check,
    closures_at,
    closures_of_pinned,
    import_fleet,
    load_release,
    read_admission,
    read_built,
    read_store_paths,
    save_release,
    sign_resolved,
)
from nixfleet_release.build.pins import pinned_refs
from nixfleet_release.build.resolve import resolve
from nixfleet_release.build.store_paths import health_checks_in
from nixfleet_release.publish.changes import ReadChecks, ReleaseContent, changes
from nixfleet_release.sign.signing_hook import SigningHook, SigningHookError
from nixfleet_release.sign.verify import Verdict, verify_release
from nixfleet_runtime.config.sections import FRESHNESS_WINDOW_MINUTES
from nixfleet_runtime.releases.nar import FileChangedWhileRead, InvalidClosureName, NotArchivable

STORE = Path("/nix/store")

_RELEASE = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def release() -> None:
    """Releases: signed files that say which host gets which closure."""


@frozen
class _Signing:
    """Who signs, when, and whose keys the result is held against."""

    signer: Signer
    trust: TrustRoot
    signed_at: datetime


@frozen
class _Built:
    """Where closures are: as trees and the store they go to, or under their names; and those of other commits."""

    trees: Path | None
    store: Path | None
    store_paths: Path | None
    pinned: tuple[str, ...]


@frozen
class _Resolved:
    """A fleet with its closures, the refs of channels that do not follow, and what is odd about it."""

    fleet: FleetResolved
    other_refs: Mapping[str, str]
    warnings: tuple[str, ...]


@release.command()
@click.argument("declaration", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--ref", required=True, help="What the channels point at from now on; usually a commit."
)
@click.option(
    "--trust", "trust_file", required=True, type=FILE, help="The trust file that the fleet has."
)
@click.option(
    "--closures", type=DIRECTORY, help="Built trees, one directory for each host, by its name."
)
@click.option(
    "--store", type=DIRECTORY, help="With --closures: where the trees go, under their new names."
)
@click.option(
    "--store-paths", type=FILE, help="JSON: store paths by host, of closures that have their names."
)
@click.option(
    "--pinned",
    multiple=True,
    metavar="COMMIT=PATH",
    help="For hosts pinned to COMMIT: an earlier release, or JSON as for --store-paths.",
)
@click.option("--key", "key_file", type=FILE, help="Sign with the key in this file (0600).")
@click.option(
    "--sign-with", "hook", metavar="COMMAND", help="Sign with this command; see docs/trust.md."
)
@click.option(
    "--public-key",
    type=arguments.public_key,
    help="With --sign-with: its key, if not the trust file's current.",
)
@click.option("--admission", type=FILE, help="TOML: revocations and bootstrap nonces.")
@click.option("--tokens", type=DIRECTORY, help="Token files whose nonces are good.")
@click.option("--signed-at", type=arguments.time, help="The time of signing; now, if not given.")
@click.option("--commit", help="The commit that it was made from, for those who read it.")
def make(
    declaration: Path,
    out: Path,
    ref: str,
    trust_file: Path,
    closures: Path | None,
    store: Path | None,
    store_paths: Path | None,
    pinned: tuple[str, ...],
    key_file: Path | None,
    hook: str | None,
    public_key: TrustedKey | None,
    admission: Path | None,
    tokens: Path | None,
    signed_at: datetime | None,
    commit: str | None,
) -> None:
    """Sign what DECLARATION comes to, and let the directory OUT hold it, in place of an earlier release.

    DECLARATION is TOML, a directory of it, or a resolved fleet (.json) that names its closures.

    All of it is written or nothing. What it changes for whom is told.

    Exit codes: 0 written; 1 not written, for what was given is not in order; 2 it could not be read or signed.
    """
    trust = load_trust(trust_file)
    signing = _Signing(
        _signer(key_file, hook, public_key, trust), trust, now() if signed_at is None else signed_at
    )
    _require_trusted(signing)
    try:
        resolved = _resolved(
            declaration, ref, _Built(closures, store, store_paths, pinned), signing.signed_at
        )
        made = sign_resolved(
            resolved.fleet,
            other_refs=resolved.other_refs,
            channel_ref=ref,
            signed_at=signing.signed_at,
            key=signing.signer,
            ci_commit=commit,
            admission=read_admission(admission, tokens),
        )
        _require_believed(made, signing)
        before = _earlier(out)
        save_release(made, out)
    except (DeclarationError, AdmissionError, InvalidRolloutId, LeadsOutside) as error:
        raise Findings(f"{declaration}: {error}") from error
    except (NotArchivable, FileChangedWhileRead, InvalidClosureName) as error:
        raise Findings(f"closures: {error}") from error
    except (NotARelease, IncompleteRelease, SigningHookError) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or out}: {error.strerror}") from error
    _tell_made(made, before, out, store or STORE, resolved.warnings)


@release.command()
@click.argument("old", type=_RELEASE)
@click.argument("new", type=_RELEASE)
@click.option(
    "--store",
    type=DIRECTORY,
    default=None,
    help="Where closures are looked into; /nix/store if not given.",
)
def diff(old: Path, new: Path, store: Path | None) -> None:
    """Tell what the release in NEW does to whom that runs the one in OLD. Nothing is verified.

    Exit codes: 0 told; 2 one of them is no release.
    """
    told = changes(_said(old), _said(new), _look_into(store or STORE))
    for line in told or ("nothing changes",):
        click.echo(line)


@release.command("check")
@click.argument("directory", type=_RELEASE)
@click.option(
    "--trust", "trust_file", required=True, type=FILE, help="The trust file that the fleet has."
)
@arguments.at_time
@arguments.freshness_minutes
def check_(directory: Path, trust_file: Path, at_time: datetime, freshness_minutes: int) -> None:
    """Say whether control plane and agents will believe the release in DIRECTORY.

    Exit codes: 0 they will; 1 they will not, with every reason; 2 it is no release.
    """
    verdict = verify_release(
        _load(directory),
        load_trust(trust_file),
        at_time,
        freshness_window_minutes=freshness_minutes,
    )
    tell_believed(verdict)
    if verdict.refused:
        raise Findings("\n".join(map(str, verdict.refused)))


def tell_believed(verdict: Verdict) -> None:
    """Print what of a verdict is in order."""
    for it in verdict.accepted:
        click.echo(f"{it.name}: signed {format_time(it.signed_at)} by {it.signed_by}")


def _signer(
    key_file: Path | None, hook: str | None, public_key: TrustedKey | None, trust: TrustRoot
) -> Signer:
    if (key_file is None) == (hook is None):
        raise click.UsageError("expected one of --key and --sign-with")
    if key_file is not None:
        return load_key(key_file)
    command = tuple(shlex.split(hook or ""))
    if not command:
        raise click.UsageError("expected --sign-with to name a command")
    return SigningHook(command, public_key or trust.ci_release_key.current)


def _require_trusted(signing: _Signing) -> None:
    # Before anything is built or a device asked: the verdict at the end would say it too late.
    known = [key.public_key for key in signing.trust.ci_release_key.keys]
    found = signing.signer.public_key.public_key
    if found not in known:
        raise Findings(
            f"the fleet would not believe this release: expected a key of the trust file ({', '.join(known)}), "
            f"found {found}"
        )


def _resolved(declaration: Path, ref: str, built: _Built, now: datetime) -> _Resolved:
    if declaration.suffix == ".json":
        return _imported(declaration, built)
    checked = check(declaration, now=now)
    return _Resolved(
        resolve(checked, _closures(checked, ref, built), Meta(None)),
        pinned_refs(checked, now),
        tuple(map(str, checked.warnings)),
    )


def _imported(file: Path, built: _Built) -> _Resolved:
    if built.trees or built.store_paths or built.pinned:
        raise click.UsageError("expected no closures beside a resolved fleet, which names its own")
    imported = import_fleet(file.read_bytes())
    hosts = sorted(imported.fleet.hosts.items())
    warnings = (
        *(f"{path}: unknown field, left out" for path in imported.unknown_fields),
        *(f"{it}: no closure, so in no rollout" for it, host in hosts if not host.closure_hash),
    )
    return _Resolved(imported.fleet, {}, warnings)


def _closures(checked: CheckedFleet, ref: str, built: _Built) -> Mapping[str, str]:
    if (built.trees is None) == (built.store_paths is None):
        raise click.UsageError("expected one of --closures and --store-paths")
    pinned = closures_of_pinned(checked, ref, dict(map(_of_commit, built.pinned)))
    if built.store_paths is not None:
        paths = read_store_paths(built.store_paths)
        named = closures_at(checked, {it: path for it, path in paths.items() if it not in pinned})
        if named.unseen:
            click.echo(
                "warning: not on this machine, so their health checks were not compared: "
                + ", ".join(named.unseen),
                err=True,
            )
        return {**named.closures, **pinned}
    if built.trees is None or built.store is None:
        raise click.UsageError("expected --store with --closures: where hosts get closures from")
    trees = {it.name: it for it in built.trees.iterdir() if it.is_dir() and it.name[0] != "."}
    due = {hostname: tree for hostname, tree in trees.items() if hostname not in pinned}
    return {**add_closures(checked, due, built.store), **pinned}


def _of_commit(text: str) -> tuple[str, Mapping[str, str]]:
    commit, equals, path = text.partition("=")
    if not commit or not equals or not Path(path).exists():
        raise click.BadParameter(
            f"expected COMMIT=PATH, with a path that exists, found {text!r}", param_hint="--pinned"
        )
    return commit, read_built(Path(path))


def _require_believed(made: Release, signing: _Signing) -> None:
    verdict = verify_release(
        made, signing.trust, signing.signed_at, freshness_window_minutes=FRESHNESS_WINDOW_MINUTES
    )
    if verdict.refused:
        told = "\n  ".join(map(str, verdict.refused))
        raise Findings(
            f"the fleet would not believe this release, and it was not written:\n  {told}"
        )


def _earlier(out: Path) -> Release | None:
    try:
        return load_release(out)
    except FileNotFoundError:
        return None
    except IncompleteRelease as error:
        click.echo(f"warning: {error}; it is replaced", err=True)
        return None


def _tell_made(
    made: Release, before: Release | None, out: Path, store: Path, warnings: Iterable[str]
) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{out}: {', '.join(made.manifests) or 'no rollouts'}")
    if before is None:
        return
    try:
        lines = changes(ReleaseContent.by(before), ReleaseContent.by(made), _look_into(store))
    except DecodeError as error:
        click.echo(f"warning: the earlier release cannot be compared: {error}", err=True)
        return
    for line in lines or ("nothing changes",):
        click.echo(line)


def _said(directory: Path) -> ReleaseContent:
    try:
        return ReleaseContent.by(_load(directory))
    except DecodeError as error:
        raise Unusable(f"{directory}: {error}") from error


def _load(directory: Path) -> Release:
    try:
        return load_release(directory)
    except (NotARelease, IncompleteRelease) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error


def _look_into(store: Path) -> ReadChecks:
    def look(closure: str) -> HealthCheckSet | None:
        tree = store / closure
        return health_checks_in(tree) if tree.exists() else None

    return cache(look)
