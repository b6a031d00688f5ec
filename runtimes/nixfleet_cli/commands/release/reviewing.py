"""`nixfleet release diff` and `release check`: what a release changes, and whether the fleet would believe it."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import click
from attrs import evolve

from nixfleet_cli.commands.release.shared import (
    NO_CHANGES,
    RELEASE,
    STORE,
    content_of,
    load_made,
    reader_of,
    sections_of,
    trust_option,
)
from nixfleet_cli.commands.trust import verdict_value
from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.arguments import DIRECTORY, load_trust
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing, shown_time
from nixfleet_cli.shared.policies import blast_radius_value
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.trust import TrustRoot
from nixfleet_release import Release
from nixfleet_release.check.approvers import resolved_approvals
from nixfleet_release.check.import_resolved import policy_problems
from nixfleet_release.publish.changes import (
    ReleaseContent,
    blast_radii,
    changes,
    steering_lines,
    wave_sizes,
)
from nixfleet_release.sign.verify import RefusedArtefact, verify_release
from nixfleet_runtime.releases.layout import FLEET_FILE


@command()
@click.argument("old", type=RELEASE)
@click.argument("new", type=RELEASE)
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
    lines = changes(content_of(old), content_of(new), reader_of(store or STORE))
    output.show({"changes": sections_of(lines)}, lines or (NO_CHANGES,))


@command("check")
@click.argument("directory", type=RELEASE)
@trust_option
@arguments.at_time
@arguments.freshness_minutes
@click.option(
    "--after",
    "before",
    type=RELEASE,
    metavar="DIR",
    help="The release that is in force; what conflicts with it is refused.",
)
@printing(
    "one object with accepted (name, signedBy, signedAt), refused (name, why), waves (host counts, by rollout), "
    "blastRadius (hosts, worst, tolerated, inFlight, by rollout) and steering (guards in words, by rollout, and the "
    "calendar)"
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

    Control plane and agents run the same rules on the release in DIRECTORY. Shows how many hosts each wave has, how
    many of them a rollout can cost at worst, what the waves wait for, and the windows and freezes. A release whose
    rollouts could stand still for ever is refused too.

    A ref that was superseded is found by the history in DIRECTORY, a conflict with another release by --after.

    Exit codes: 0 accepted; 1 refused, with every reason; 2 DIRECTORY is not a release.
    """
    release, trust = load_made(directory), load_trust(trust_file)
    try:
        verdict = verify_release(
            release,
            trust,
            at_time,
            freshness_window_minutes=freshness_minutes,
            before=None if before is None else load_made(before),
        )
    except DecodeError as error:
        raise Unusable(f"{before}: {error}") from error
    if not verdict.refused:
        verdict = evolve(verdict, refused=tuple(_stand_stills(release, trust)))
    waves = {} if verdict.refused else wave_sizes(release)
    radii = {} if verdict.refused else blast_radii(ReleaseContent.by(release))
    steering = {} if verdict.refused else steering_lines(ReleaseContent.by(release))
    output.show(
        {
            **verdict_value(verdict),
            "waves": waves,
            "blastRadius": {it: blast_radius_value(radius) for it, radius in radii.items()},
            "steering": steering,
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
            *(f"{what}: {line}" for what, lines in steering.items() for line in lines),
        ],
    )
    if verdict.refused:
        raise Findings(*map(str, verdict.refused))


def _stand_stills(release: Release, trust: TrustRoot) -> Iterable[RefusedArtefact]:
    """Yield what the policies of a release contradict; those who declare it are refused it earlier.

    And the waves that need more approvals than the operators of `trust` can give.
    """
    fleet = ReleaseContent.by(release).fleet
    unreachable = resolved_approvals(fleet, trust, fleet.meta.author)
    for problem in (*policy_problems(fleet), *unreachable):
        yield RefusedArtefact(FLEET_FILE, str(problem))
