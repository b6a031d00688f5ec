"""`nixfleet release publish`: a release that was made elsewhere, put into the control plane's directory."""

from datetime import datetime
from pathlib import Path

import click
from attrs import evolve

from nixfleet_cli.commands.release.shared import (
    RELEASE,
    STORE,
    earlier_in,
    load_made,
    refused_by_the_fleet,
    show_made,
    trust_option,
)
from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import DIRECTORY, load_trust
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_release import IncompleteRelease, NotARelease, Release, save_release
from nixfleet_release.publish.changes import ReleaseContent
from nixfleet_release.sign.verify import history_after, verify_release


@command()
@click.argument("made", type=RELEASE)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@trust_option
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
    trust, release = load_trust(trust_file), load_made(made)
    try:
        before = earlier_in(directory)
        verdict = verify_release(
            release, trust, at_time, freshness_window_minutes=None, before=before
        )
        if verdict.refused:
            raise refused_by_the_fleet(verdict.refused)
        if store is not None:
            _require_closures(release, store)
        published = evolve(release, history=FrozenMap(history_after(release, before)))
        save_release(published, directory)
    except (NotARelease, IncompleteRelease) as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error
    show_made(output, published, before, directory, store or STORE, ())


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
