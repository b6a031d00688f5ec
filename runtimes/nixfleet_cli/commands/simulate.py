"""`nixfleet simulate`: a fleet under faults, from a seed. Prints the seed first; needs no database and no network."""

import gc
import secrets
import sys
import time
from collections import Counter
from collections.abc import Collection

import click

from nixfleet_simulation.judge.promises import PromiseBroken
from nixfleet_simulation.report.crash_points import crash_points as all_crash_points
from nixfleet_simulation.report.minimise import minimise
from nixfleet_simulation.report.report import Totals
from nixfleet_simulation.report.story import pasteable_test, story
from nixfleet_simulation.run.run import Outcome, run
from nixfleet_simulation.scenario.acts import Family
from nixfleet_simulation.scenario.generate import ALL_FAULTS, draw
from nixfleet_simulation.scenario.scenario import Scenario

EXIT_BROKEN = 1
NOTHING = "none"
EVERYTHING = "all"
SEED_BITS = 48
REBUILDS_EVERY = 8
"""Of how many runs one makes all views again from its log by the production code, which takes as long as the run."""


def _families(_: click.Context, __: click.Parameter, text: str) -> Collection[Family]:
    if text == EVERYTHING:
        return ALL_FAULTS
    names = [] if text == NOTHING else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in ALL_FAULTS]
    if unknown:
        known = ", ".join(sorted(ALL_FAULTS))
        raise click.BadParameter(f"expected some of {known}, found {', '.join(unknown)}")
    return frozenset(Family(name) for name in names)


@click.command()
@click.option("--seed", type=int, help="What decides everything. Default: a fresh one.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="N")
@click.option("--hosts", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--days", type=click.FloatRange(min=0.01), default=0.25, show_default=True)
@click.option(
    "--faults",
    callback=_families,
    default=EVERYTHING,
    show_default=True,
    metavar="FAMILIES",
    help=f"Which trouble may come: {', '.join(sorted(ALL_FAULTS))}; or all, or none.",
)
@click.option(
    "--crash-points",
    is_flag=True,
    help="Instead: one scripted rollout with a rollback; each side dies once at each of its writes and sends.",
)
def simulate(
    seed: int | None,
    seeds: int,
    hosts: int,
    days: float,
    faults: Collection[Family],
    crash_points: bool,
) -> None:
    """Run the production engines under faults, in virtual time, and check every promise after every step.

    One seed decides everything; with --seeds N, so do the N - 1 numbers after it. The same seed and version give
    the same trace, byte for byte.

    Exit codes: 0 every promise held; 1 one was broken, and how is told; 2 wrong use.
    """
    if crash_points:
        _go_through_crash_points()
    else:
        _simulate(seed, seeds, hosts, days, faults)


def _go_through_crash_points() -> None:
    counts, violations = Counter[str](), 0
    for point in all_crash_points():
        counts[point.boundary.value] += 1
        if point.broken is not None:
            violations += 1
            click.echo(f"{point.die_at}: {point.broken}")
    for boundary, count in sorted(counts.items()):
        click.echo(f"{boundary:<40}{count:>6}")
    click.echo(f"{counts.total()} points, {violations} violations")
    if violations:
        sys.exit(EXIT_BROKEN)


def _simulate(
    seed: int | None, seeds: int, hosts: int, days: float, faults: Collection[Family]
) -> None:
    # A fleet is a tree of small objects that live long: the collector finds nothing, and looks all the time.
    gc.set_threshold(100_000, 50, 1_000)
    first = secrets.randbits(SEED_BITS) if seed is None else seed
    click.echo(f"seed {first}")
    began, totals = time.monotonic(), Totals()
    broken: Outcome | None = None
    for each in range(first, first + seeds):
        rebuilds = seeds == 1 or each % REBUILDS_EVERY == 0
        outcome = run(draw(each, hosts, days, faults), rebuilds=rebuilds)
        totals.add(outcome)
        click.echo(_progress(outcome))
        if outcome.broken is not None:
            broken = outcome
            break
    click.echo()
    for line in totals.lines(time.monotonic() - began):
        click.echo(line)
    if broken is not None and broken.broken is not None:
        _tell(broken.scenario, broken.broken)
        sys.exit(EXIT_BROKEN)


def _tell(scenario: Scenario, broken: PromiseBroken) -> None:
    """Make the history smaller, and show it as a story and as a test."""
    click.echo(f"\nseed {scenario.seed} breaks a promise.\n  {broken}")
    click.echo("making the history smaller …", err=True)
    smallest = minimise(scenario, broken)
    told = run(smallest, keeps_lines=True)
    count = f"{len(smallest.acts)} of {len(scenario.acts)} acts, {len(smallest.hosts)} hosts"
    click.echo(f"\nThe smallest history that was found ({count}):")
    for line in story(told):
        click.echo(f"  {line}")
    click.echo("\nAs a test:\n")
    for line in pasteable_test(smallest, broken):
        click.echo(line)


def _progress(outcome: Outcome) -> str:
    said = "every promise held" if outcome.broken is None else f"BROKEN {outcome.broken}"
    return (
        f"seed {outcome.scenario.seed}  {outcome.host_days:6.2f} host-days  {outcome.events:>9,} events  "
        f"{outcome.trace.digest()[:16]}  {said}"
    )
