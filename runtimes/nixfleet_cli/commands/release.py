"""`nixfleet release`: from a declaration and closures to signed files, and what they change."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import click
from attrs import evolve, frozen

from nixfleet_cli.commands.trust import verdict_value
from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import DIRECTORY, FILE, load_key, load_trust, now
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing, shown_time, warn
from nixfleet_cli.shared.policies import blast_radius_value
from nixfleet_proto.codec import DecodeError, HealthCheckSet, parse_json
from nixfleet_proto.codec.artefact import meta_of
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
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
from nixfleet_release.check.import_resolved import policy_problems
from nixfleet_release.check.staging import InForce
from nixfleet_release.publish.changes import (
    ReadChecks,
    ReleaseContent,
    blast_radii,
    changes,
    wave_sizes,
)
from nixfleet_release.sign.admission import objection_to_token, require_known_hosts
from nixfleet_release.sign.release import sign_again
from nixfleet_release.sign.signing_hook import SigningHook, SigningHookError
from nixfleet_release.sign.verify import (
    Precedents,
    RefusedArtefact,
    history_after,
    verify_release,
)
from nixfleet_runtime.releases.closure_tree import UnfitClosure
from nixfleet_runtime.releases.layout import FLEET_FILE
from nixfleet_runtime.releases.nar import FileChangedWhileRead, InvalidClosureName, NotArchivable
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX, read_regular_file

STORE = Path("/nix/store")

_RELEASE = click.Path(exists=True, file_okay=False, path_type=Path)
_NO_CHANGES = "nothing changes"
_trust_option = click.option(
    "--trust",
    "trust_file",
    required=True,
    metavar="FILE",
    type=FILE,
    help="The fleet's trust file.",
)


_key_option = click.option(
    "--key", "key_file", type=FILE, metavar="FILE", help="Sign with the key in FILE (0600)."
)
_hook_option = click.option(
    "--sign-with", "hook", metavar="COMMAND", help="Instead of --key: sign with a command."
)
_public_key_option = click.option(
    "--public-key",
    metavar="PUBLIC_KEY",
    type=arguments.public_key,
    help="With --sign-with: its key; default: the trust file's current.",
)
_signed_at_option = click.option(
    "--signed-at", metavar="TIME", type=arguments.time, help="The time of signing; default: now."
)


@group()
def release() -> None:
    """Build, compare and check releases.

    A release is a directory of signed files that assign a closure to each host.
    """


@frozen
class _Signing:
    """The signer, the time, and the trust root that the result is verified against."""

    signer: Signer
    trust: TrustRoot
    signed_at: datetime


@frozen
class _Built:
    """Where closures are: trees and the store to add them to, or store paths; and those of pinned commits."""

    trees: Path | None
    store: Path | None
    store_paths: Path | None
    pinned: tuple[str, ...]


@frozen
class _Resolved:
    """A fleet with its closures, the refs of channels that do not follow, and warnings."""

    fleet: FleetResolved
    other_refs: Mapping[str, str]
    warnings: tuple[str, ...]


@release.command()
@click.argument("declaration", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--ref", required=True, metavar="REF", help="The channels' new ref, usually a commit."
)
@_trust_option
@click.option(
    "--closures",
    type=DIRECTORY,
    metavar="DIR",
    help="Built trees, one directory a host, by its name.",
)
@click.option(
    "--store",
    type=DIRECTORY,
    metavar="DIR",
    help="With --closures: the store to copy the trees into.",
)
@click.option(
    "--store-paths",
    type=FILE,
    metavar="FILE",
    help="Instead of --closures: JSON, store paths by host.",
)
@click.option(
    "--pinned",
    multiple=True,
    metavar="COMMIT=PATH",
    help="Closures of hosts pinned to COMMIT: a release, or JSON as for --store-paths; repeatable.",
)
@_key_option
@_hook_option
@_public_key_option
@click.option(
    "--admission", type=FILE, metavar="FILE", help="Revocations and bootstrap nonces (TOML)."
)
@click.option(
    "--tokens", type=DIRECTORY, metavar="DIR", help="Token files whose nonces are accepted."
)
@_signed_at_option
@click.option("--commit", metavar="SHA", help="The source commit, recorded in the release.")
@click.option(
    "--author",
    metavar="NAME",
    help="The operator who wrote the release, recorded in it: NAME does not approve it.",
)
@click.option(
    "--after",
    type=_RELEASE,
    metavar="DIR",
    help="The release in force, which this one is compared with; default: the one in OUT.",
)
@printing("one object with directory, rollouts, warnings and changes (null for a first release)")
def make(
    output: Output,
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
    author: str | None,
    after: Path | None,
) -> None:
    """Build and sign a release from DECLARATION into OUT.

    DECLARATION is TOML, a directory of it, or a resolved fleet (.json) that names its closures. OUT is a directory; an
    earlier release in it is replaced. The write is atomic. Prints which hosts change, and how.

    A control plane that reads OUT acts at once. Where closures reach hosts by another way than --store, make the
    release elsewhere, and run `release publish` when they have arrived.

    What a control plane would refuse after the release in OUT, or that of --after, is refused here: a ref that was
    superseded, a ref with other closures, a wave in which no host has a closure. To go back to older content, release
    it under a new ref. Under the ref in force hosts may be added and removed: those that stay keep their waves, also
    where waves have limits, and new ones join the wave that selects them without a limit.

    Exit codes: 0 success; 1 invalid input, nothing written; 2 a file cannot be read, signed or written, or a usage
    error.
    """
    trust = load_trust(trust_file)
    signing = _Signing(
        _signer(key_file, hook, public_key, trust), trust, now() if signed_at is None else signed_at
    )
    _require_trusted(signing)
    try:
        before = _earlier(after or out)
        built = _Built(closures, store, store_paths, pinned)
        resolved = _resolved(declaration, ref, built, signing.signed_at, before)
        admitted = read_admission(
            admission,
            tokens,
            lambda it: objection_to_token(it, resolved.fleet, trust, signing.signed_at),
        )
        require_known_hosts(admitted, resolved.fleet)
        made = sign_resolved(
            resolved.fleet,
            other_refs=resolved.other_refs,
            channel_ref=ref,
            signed_at=signing.signed_at,
            key=signing.signer,
            ci_commit=commit,
            author=author,
            admission=admitted,
        )
        _require_accepted(made, signing, before)
        made = evolve(made, history=FrozenMap(history_after(made, before)))
        save_release(made, out)
    except (DeclarationError, AdmissionError, InvalidRolloutId, LeadsOutside) as error:
        raise Findings(*lines_of(error, declaration)) from error
    except (NotArchivable, UnfitClosure, FileChangedWhileRead, InvalidClosureName) as error:
        raise Findings(*lines_of(error, "closures")) from error
    except (NotARelease, IncompleteRelease, SigningHookError) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or out}: {error.strerror}") from error
    _show_made(output, made, before, out, store or STORE, resolved.warnings)


@release.command()
@click.argument("made", type=_RELEASE)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@_trust_option
@arguments.at_time
@click.option(
    "--store",
    type=DIRECTORY,
    metavar="DIR",
    help="Where hosts fetch closures; the release is refused while it lacks one.",
)
@printing("one object with directory, rollouts, warnings and changes (null for a first release)")
def publish(
    output: Output,
    made: Path,
    directory: Path,
    trust_file: Path,
    at_time: datetime,
    store: Path | None,
) -> None:
    """Put a release where a control plane reads it.

    The release in MADE replaces the one in DIRECTORY, the release directory of a control plane.
    The last step, after closures have been built, the release made and the closures copied to where hosts fetch them.
    It needs no key: it verifies the release as its receivers will, after the release in DIRECTORY. The write is atomic.
    Prints which hosts change, and how.

    Exit codes: 0 success; 1 the release would be refused, or a closure is missing, nothing written; 2 a file cannot be
    read or written.
    """
    trust, release = load_trust(trust_file), _load(made)
    try:
        before = _earlier(directory)
        verdict = verify_release(
            release, trust, at_time, freshness_window_minutes=None, before=before
        )
        if verdict.refused:
            raise _refused_by_the_fleet(verdict.refused)
        if store is not None:
            _require_closures(release, store)
        published = evolve(release, history=FrozenMap(history_after(release, before)))
        save_release(published, directory)
    except (NotARelease, IncompleteRelease) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error
    _show_made(output, published, before, directory, store or STORE, ())


@release.command()
@click.argument("directory", type=_RELEASE)
@_trust_option
@_key_option
@_hook_option
@_public_key_option
@_signed_at_option
@click.option(
    "--if-due", is_flag=True, help="Only if a signing_interval_minutes has passed since the last."
)
@printing("one object with directory, rollouts and signedAt (null if it is not due)")
def resign(
    output: Output,
    directory: Path,
    trust_file: Path,
    key_file: Path | None,
    hook: str | None,
    public_key: TrustedKey | None,
    signed_at: datetime | None,
    if_due: bool,
) -> None:
    """Sign the release in DIRECTORY anew, with the same content.

    Signatures are accepted for a limited time (freshness_window_minutes). Run this from a timer when no new release is
    due, with --if-due as often as you like. No host moves. The release must be signed by a key of the trust file; its
    age does not matter. The write is atomic.

    Exit codes: 0 success; 1 the release is not signed by a trusted key, nothing written; 2 a file cannot be read,
    signed or written, or a usage error.
    """
    trust = load_trust(trust_file)
    signing = _Signing(
        _signer(key_file, hook, public_key, trust), trust, now() if signed_at is None else signed_at
    )
    _require_trusted(signing)
    before = _load(directory)
    due_at = _due_at(before, directory) if if_due else None
    if due_at is not None and signing.signed_at < due_at:
        output.show(
            {"directory": directory, "rollouts": list(before.manifests), "signedAt": None},
            [f"{directory}: not due before {shown_time(due_at)}"],
        )
        return
    try:
        _require_signed(before, trust)
        made = sign_again(before, signed_at=signing.signed_at, key=signing.signer)
        _require_accepted(made, signing, before)
        save_release(made, directory)
    except SigningHookError as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error
    output.show(
        {
            "directory": directory,
            "rollouts": list(made.manifests),
            "signedAt": signing.signed_at,
        },
        [f"{directory}: {', '.join(made.manifests)}: signed anew"],
    )


@release.command()
@click.argument("old", type=_RELEASE)
@click.argument("new", type=_RELEASE)
@click.option(
    "--store",
    type=DIRECTORY,
    metavar="DIR",
    default=None,
    show_default="/nix/store",
    help="The store whose closures are compared.",
)
@printing("one object with changes: a list of heading and lines")
def diff(output: Output, old: Path, new: Path, store: Path | None) -> None:
    """Compare two releases.

    Shows what the release in NEW changes for hosts that run the one in OLD. Nothing is verified.

    Exit codes: 0 success; 2 one of them is not a release.
    """
    lines = changes(_content(old), _content(new), _reader_of(store or STORE))
    output.show({"changes": _sections(lines)}, lines or (_NO_CHANGES,))


@release.command("check")
@click.argument("directory", type=_RELEASE)
@_trust_option
@arguments.at_time
@arguments.freshness_minutes
@click.option(
    "--after",
    "before",
    type=_RELEASE,
    metavar="DIR",
    help="The release that is in force; what conflicts with it is refused.",
)
@printing(
    "one object with accepted (name, signedBy, signedAt), refused (name, why), waves (host counts, by rollout) and "
    "blastRadius (hosts, worst, tolerated, inFlight, by rollout)"
)
def check_(
    output: Output,
    directory: Path,
    trust_file: Path,
    at_time: datetime,
    freshness_minutes: int | None,
    before: Path | None,
) -> None:
    """Verify a release as its receivers will.

    Control plane and agents run the same rules on the release in DIRECTORY. Shows how many hosts each wave has, and how
    many of them a rollout can cost at worst. A release whose rollouts could stand still for ever is refused too.

    A ref that was superseded is found by the history in DIRECTORY, a conflict with another release by --after.

    Exit codes: 0 accepted; 1 refused, with every reason; 2 DIRECTORY is not a release.
    """
    release = _load(directory)
    try:
        verdict = verify_release(
            release,
            load_trust(trust_file),
            at_time,
            freshness_window_minutes=freshness_minutes,
            before=None if before is None else _load(before),
        )
    except DecodeError as error:
        raise Unusable(f"{before}: {error}") from error
    if not verdict.refused:
        verdict = evolve(verdict, refused=tuple(_stand_stills(release)))
    waves = {} if verdict.refused else wave_sizes(release)
    radii = {} if verdict.refused else blast_radii(ReleaseContent.by(release))
    output.show(
        {
            **verdict_value(verdict),
            "waves": waves,
            "blastRadius": {it: blast_radius_value(radius) for it, radius in radii.items()},
        },
        [
            *(
                f"{each.name}: signed {shown_time(each.signed_at)} by {each.signed_by}"
                for each in verdict.accepted
            ),
            *(
                f"{rollout_id}: waves of {', '.join(map(str, sizes))} hosts"
                for rollout_id, sizes in waves.items()
            ),
            *(f"{rollout_id}: {radius}" for rollout_id, radius in radii.items()),
        ],
    )
    if verdict.refused:
        raise Findings(*map(str, verdict.refused))


def _stand_stills(release: Release) -> Iterable[RefusedArtefact]:
    """Yield what the policies of a release contradict; those who declare it are refused it earlier."""
    for problem in policy_problems(ReleaseContent.by(release).fleet):
        yield RefusedArtefact(FLEET_FILE, str(problem))


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
    # Before anything is built and before a device signs: the verification at the end would be too late.
    known = [key.public_key for key in signing.trust.ci_release_key.keys]
    found = signing.signer.public_key.public_key
    if found not in known:
        raise Findings(
            f"the fleet would refuse this release: expected a key of the trust file ({', '.join(known)}), "
            f"found {found}"
        )


def _resolved(
    declaration: Path, ref: str, built: _Built, now: datetime, before: Release | None
) -> _Resolved:
    if declaration.suffix == ".json":
        return _imported(declaration, built)
    checked = check(declaration, now=now)
    other_refs = pinned_refs(checked, now)
    closures = _closures(checked, ref, built)
    in_force = None if before is None else InForce.of(before)
    return _Resolved(
        resolve(
            checked,
            closures,
            Meta(None),
            channel_ref=ref,
            other_refs=other_refs,
            in_force=in_force,
        ),
        other_refs,
        tuple(map(str, checked.warnings)),
    )


def _imported(file: Path, built: _Built) -> _Resolved:
    if built.trees or built.store_paths or built.pinned:
        raise click.UsageError("expected no closures beside a resolved fleet, which names its own")
    imported = import_fleet(read_regular_file(file, bytes_max=LARGE_FILE_BYTES_MAX))
    hosts = sorted(imported.fleet.hosts.items())
    warnings = (
        *(f"{path}: unknown field, left out" for path in imported.unknown_fields),
        *imported.without_effect,
        *(
            f"{name}: {'no closure' if host.enabled else 'disabled'}, so in no rollout"
            for name, host in hosts
            if not host.closure_hash or not host.enabled
        ),
    )
    return _Resolved(imported.fleet, {}, warnings)


def _closures(checked: CheckedFleet, ref: str, built: _Built) -> Mapping[str, str]:
    if (built.trees is None) == (built.store_paths is None):
        raise click.UsageError("expected one of --closures and --store-paths")
    pinned = closures_of_pinned(checked, ref, dict(map(_of_commit, built.pinned)))

    def is_due(hostname: str) -> bool:
        return hostname not in pinned and not checked.declaration.is_disabled(hostname)

    if built.store_paths is not None:
        paths = read_store_paths(built.store_paths)
        named = closures_at(checked, {it: path for it, path in paths.items() if is_due(it)})
        if named.unseen:
            warn(
                "not on this machine, so their health checks were not compared: "
                + ", ".join(named.unseen)
            )
        return {**named.closures, **pinned}
    if built.trees is None or built.store is None:
        raise click.UsageError(
            "expected --store with --closures: the store that hosts fetch closures from"
        )
    trees = {it.name: it for it in built.trees.iterdir() if it.is_dir() and it.name[0] != "."}
    due = {hostname: tree for hostname, tree in trees.items() if is_due(hostname)}
    return {**add_closures(checked, due, built.store), **pinned}


def _of_commit(text: str) -> tuple[str, Mapping[str, str]]:
    commit, equals, path = text.partition("=")
    if not commit or not equals or not Path(path).exists():
        raise click.BadParameter(
            f"expected COMMIT=PATH, with a path that exists, found {text!r}", param_hint="--pinned"
        )
    return commit, read_built(Path(path))


def _require_accepted(made: Release, signing: _Signing, before: Release | None) -> None:
    verdict = verify_release(
        made,
        signing.trust,
        signing.signed_at,
        freshness_window_minutes=None,
        before=before,
    )
    if verdict.refused:
        raise _refused_by_the_fleet(verdict.refused)


def _refused_by_the_fleet(refused: Iterable[object]) -> Findings:
    return Findings(
        "the fleet would refuse this release, and nothing was written:",
        *(f"  {each}" for each in refused),
    )


def _require_closures(release: Release, store: Path) -> None:
    """Require that a host finds its closure when it is told to switch."""
    named = {
        assignment.target_closure: assignment.hostname
        for manifest in ReleaseContent.by(release).manifests.values()
        for assignment in manifest.host_set
    }
    missing = sorted(closure for closure in named if not (store / closure).exists())
    if missing:
        raise Findings(
            f"closures are not in {store} yet, and nothing was written:",
            *(f"  {closure}, for {named[closure]}" for closure in missing),
        )


def _require_signed(release: Release, trust: TrustRoot) -> None:
    """Require that a release was in order when it was signed, however long ago that is."""
    try:
        signed_at = meta_of(parse_json(release.fleet.body)).signed_at
        verdict = verify_release(release, trust, signed_at or now(), freshness_window_minutes=None)
    except DecodeError as error:
        raise Findings(*lines_of(error, "the release")) from error
    if verdict.refused:
        raise Findings(
            "this release is not signed anew, and nothing was written:",
            *(f"  {each}" for each in verdict.refused),
        )


def _due_at(release: Release, directory: Path) -> datetime | None:
    """Return when a release is to be signed again, by the shortest interval of its channels; `None` for at once."""
    fleet = _content(directory, release).fleet
    intervals = [it.signing_interval_minutes for it in fleet.channels.values() if it.enabled]
    signed_at = fleet.meta.signed_at
    if signed_at is None or not intervals:
        return signed_at
    return signed_at + timedelta(minutes=min(intervals))


def _earlier(out: Path) -> Release | None:
    try:
        release = load_release(out)
        Precedents(release, release)
    except FileNotFoundError:
        return None
    except IncompleteRelease as error:
        # A control plane needs the directory before there is a release: an empty one lacks nothing.
        if any(out.iterdir()):
            warn(f"{error}; it is replaced")
        return None
    except DecodeError as error:
        warn(f"the earlier release cannot be compared: {error}; it is replaced")
        return None
    return release


def _show_made(
    output: Output,
    made: Release,
    before: Release | None,
    out: Path,
    store: Path,
    warnings: Collection[str],
) -> None:
    for warning in warnings:
        warn(warning)
    lines = None if before is None else _changes(before, made, store)
    output.show(
        {
            "directory": out,
            "rollouts": list(made.manifests),
            "warnings": list(warnings),
            "changes": None if lines is None else _sections(lines),
        },
        [
            f"{out}: {', '.join(made.manifests) or 'no rollouts'}",
            *(() if lines is None else lines or (_NO_CHANGES,)),
        ],
    )


def _changes(before: Release, made: Release, store: Path) -> Sequence[str] | None:
    try:
        return changes(ReleaseContent.by(before), ReleaseContent.by(made), _reader_of(store))
    except DecodeError as error:
        warn(f"the earlier release cannot be compared: {error}")
        return None


def _sections(lines: Iterable[str]) -> Sequence[object]:
    """Return the lines of `changes` by their headings."""
    sections: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("  "):
            sections[-1][1].append(line.strip())
        else:
            sections.append((line, []))
    return [{"heading": heading, "lines": below} for heading, below in sections]


def _content(directory: Path, release: Release | None = None) -> ReleaseContent:
    try:
        return ReleaseContent.by(_load(directory) if release is None else release)
    except DecodeError as error:
        raise Unusable(f"{directory}: {error}") from error


def _load(directory: Path) -> Release:
    try:
        return load_release(directory)
    except (NotARelease, IncompleteRelease) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error


def _reader_of(store: Path) -> ReadChecks:
    def look(closure: str) -> HealthCheckSet | None:
        tree = store / closure
        return health_checks_in(tree) if tree.exists() else None

    return cache(look)
