"""What the commands of `nixfleet release` share: their arguments, reading releases, and showing changes."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

import click

from nixfleet_cli.shared.arguments import FILE
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, warn
from nixfleet_proto.codec import DecodeError, HealthCheckSet
from nixfleet_release import IncompleteRelease, NotARelease, Release, load_release
from nixfleet_release.build.store_paths import health_checks_in
from nixfleet_release.publish.changes import ReadChecks, ReleaseContent, changes
from nixfleet_release.sign.verify import Precedents

STORE = Path("/nix/store")
"""Where the closures of NixOS systems are."""
RELEASE = click.Path(exists=True, file_okay=False, path_type=Path)
NO_CHANGES = "nothing changes"
trust_option = click.option(
    "--trust",
    "trust_file",
    required=True,
    metavar="FILE",
    type=FILE,
    help="The fleet's trust file.",
)


def refused_by_the_fleet(refused: Iterable[object]) -> Findings:
    """Return the error that ends a command whose release would be refused, with each refusal."""
    return Findings(
        "the fleet would refuse this release, and nothing was written:",
        *(f"  {each}" for each in refused),
    )


def earlier_in(out: Path) -> Release | None:
    """Return the release in `out` that is about to be replaced; `None` if there is none that can be compared.

    Raises: NotARelease, OSError.
    """
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


def show_made(
    output: Output,
    made: Release,
    before: Release | None,
    out: Path,
    store: Path,
    warnings: Collection[str],
) -> None:
    """Print a release that was written to `out`, with its warnings and what it changes against `before`."""
    for warning in warnings:
        warn(warning)
    lines = None if before is None else changes_of(before, made, store)
    output.show(
        {
            "directory": out,
            "rollouts": list(made.manifests),
            "warnings": list(warnings),
            "changes": None if lines is None else sections_of(lines),
        },
        [
            f"{out}: {', '.join(made.manifests) or 'no rollouts'}",
            *(() if lines is None else lines or (NO_CHANGES,)),
        ],
    )


def changes_of(before: Release, made: Release, store: Path) -> Sequence[str] | None:
    """Return what `made` changes, in lines; `None` if the earlier release cannot be compared."""
    try:
        return changes(ReleaseContent.by(before), ReleaseContent.by(made), reader_of(store))
    except DecodeError as error:
        warn(f"the earlier release cannot be compared: {error}")
        return None


def sections_of(lines: Iterable[str]) -> Sequence[object]:
    """Return the lines of `changes` by their headings."""
    sections: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("  "):
            sections[-1][1].append(line.strip())
        else:
            sections.append((line, []))
    return [{"heading": heading, "lines": below} for heading, below in sections]


def content_of(directory: Path, release: Release | None = None) -> ReleaseContent:
    """Return the content of `release`, which is in `directory`; `None`: it is loaded. Raises: Unusable."""
    try:
        return ReleaseContent.by(load_made(directory) if release is None else release)
    except DecodeError as error:
        raise Unusable(f"{directory}: {error}") from error


def load_made(directory: Path) -> Release:
    """Return the release in `directory`, unverified. Raises: Unusable."""
    try:
        return load_release(directory)
    except (NotARelease, IncompleteRelease) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error


def reader_of(store: Path) -> ReadChecks:
    """Return what reads the health checks of closures in `store`, each once."""

    def look(closure: str) -> HealthCheckSet | None:
        tree = store / closure
        return health_checks_in(tree) if tree.exists() else None

    return cache(look)
