"""`nixfleet release make`: from a declaration and closures to signed files."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import click
from attrs import evolve, frozen

from nixfleet_cli.commands.release.shared import RELEASE, STORE, earlier_in, show_made, trust_option
from nixfleet_cli.commands.release.signing import (
    Signing,
    hook_option,
    key_option,
    public_key_option,
    require_accepted,
    require_trusted,
    signed_at_option,
    signer_of,
)
from nixfleet_cli.shared.arguments import DIRECTORY, FILE, load_trust, now
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, printing, warn
from nixfleet_cli.shared.progress import progress
from nixfleet_proto.fleet import FleetResolved, Meta
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import InvalidRolloutId
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
    read_admission,
    read_built,
    read_store_paths,
    save_release,
    sign_resolved,
)
from nixfleet_release.build.names import read_names
from nixfleet_release.build.pins import pinned_refs
from nixfleet_release.build.resolve import resolve
from nixfleet_release.check.approvers import resolved_approvals
from nixfleet_release.check.staging import InForce
from nixfleet_release.sign.admission import objection_to_token, require_known_hosts
from nixfleet_release.sign.signing_hook import SigningHookError
from nixfleet_release.sign.verify import history_after
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.releases.closure_tree import UnfitClosure
from nixfleet_runtime.releases.nar import FileChangedWhileRead, InvalidClosureName, NotArchivable
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX, read_regular_file


@frozen
class _Built:
    """Where closures are: trees and the store to add them to, store paths, or names; and those of pinned commits."""

    trees: Path | None
    store: Path | None
    store_paths: Path | None
    names: Path | None
    pinned: tuple[str, ...]


@frozen
class _Resolved:
    """A fleet with its closures, the refs of channels that do not follow, and warnings."""

    fleet: FleetResolved
    other_refs: Mapping[str, str]
    warnings: tuple[str, ...]


@command()
@click.argument("declaration", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--ref", required=True, metavar="REF", help="The channels' new ref, usually a commit."
)
@trust_option
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
    "--names",
    type=FILE,
    metavar="FILE",
    help="Instead of --closures: JSON, names by host, as the hosts' own commands take them.",
)
@click.option(
    "--pinned",
    multiple=True,
    metavar="COMMIT=PATH",
    help="Closures of hosts pinned to COMMIT: a release, or JSON as for --store-paths; repeatable.",
)
@key_option
@hook_option
@public_key_option
@click.option(
    "--admission", type=FILE, metavar="FILE", help="Revocations and bootstrap nonces (TOML)."
)
@click.option(
    "--tokens", type=DIRECTORY, metavar="DIR", help="Token files whose nonces are accepted."
)
@signed_at_option
@click.option("--commit", metavar="SHA", help="The source commit, recorded in the release.")
@click.option(
    "--author",
    metavar="NAME",
    help="The operator of the trust file who wrote the release, recorded in it: NAME does not approve it.",
)
@click.option(
    "--after",
    type=RELEASE,
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
    names: Path | None,
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
    signing = Signing(
        signer_of(key_file, hook, public_key, trust),
        trust,
        now() if signed_at is None else signed_at,
    )
    require_trusted(signing)
    _require_known_author(author, trust)
    try:
        before = earlier_in(after or out)
        built = _Built(closures, store, store_paths, names, pinned)
        resolved = _resolved(output, declaration, ref, built, signing.signed_at, before)
        unreachable = tuple(resolved_approvals(resolved.fleet, trust, author))
        if unreachable:
            raise DeclarationError(unreachable)
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
        require_accepted(made, signing, before)
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
    show_made(output, made, before, out, store or STORE, resolved.warnings)


def _require_known_author(author: str | None, trust: TrustRoot) -> None:
    """Return if the author is an operator of the trust file. Another name would keep nobody from approving."""
    names = [each.name for each in trust.operators]
    if author is not None and author not in names:
        raise Findings(str(unknown("--author", "operator in the trust file", author, names)))


def _resolved(
    output: Output,
    declaration: Path,
    ref: str,
    built: _Built,
    now: datetime,
    before: Release | None,
) -> _Resolved:
    if declaration.suffix == ".json":
        return _imported(declaration, built)
    checked = check(declaration, now=now)
    other_refs = pinned_refs(checked, now)
    closures = _closures(output, checked, ref, built)
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
    if built.trees or built.store_paths or built.names or built.pinned:
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


def _closures(output: Output, checked: CheckedFleet, ref: str, built: _Built) -> Mapping[str, str]:
    given = [it for it in (built.trees, built.store_paths, built.names) if it is not None]
    if len(given) != 1:
        raise click.UsageError("expected one of --closures, --store-paths and --names")
    pinned = closures_of_pinned(checked, ref, dict(map(_of_commit, built.pinned)))

    def is_due(hostname: str) -> bool:
        return hostname not in pinned and not checked.declaration.is_disabled(hostname)

    if built.names is not None:
        names = read_names(checked, built.names)
        return {**{it: name for it, name in names.items() if is_due(it)}, **pinned}
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
    with progress(output, "hashing closures", "trees", len(set(due.values()))) as bar:
        return {**add_closures(checked, due, built.store, bar.noted), **pinned}


def _of_commit(text: str) -> tuple[str, Mapping[str, str]]:
    commit, equals, path = text.partition("=")
    if not commit or not equals or not Path(path).exists():
        raise click.BadParameter(
            f"expected COMMIT=PATH, with a path that exists, found {text!r}", param_hint="--pinned"
        )
    return commit, read_built(Path(path))
