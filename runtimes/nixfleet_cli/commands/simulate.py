"""`nixfleet simulate`: simulated fleets under faults, from a seed. Prints the seed first; needs no database."""

import gc
import secrets
import sys
import time
from collections import Counter
from collections.abc import Collection

import click

from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.output import Output, note, printing, show_lines
from nixfleet_cli.shared.progress import progress
from nixfleet_simulation.judge.promises import PromiseBroken
from nixfleet_simulation.report.crash_points import crash_points as all_crash_points
from nixfleet_simulation.report.minimise import minimise
from nixfleet_simulation.report.report import Totals
from nixfleet_simulation.report.story import pasteable_test, story
from nixfleet_simulation.run.run import Outcome, run
from nixfleet_simulation.scenario.family import Family
from nixfleet_simulation.scenario.generate import ALL_FAULTS, draw
from nixfleet_simulation.scenario.scenario import Scenario

EXIT_BROKEN = 1
NOTHING = "none"
EVERYTHING = "all"
SEED_BITS = 48
REBUILDS_EVERY = 8
"""One run in this many rebuilds all views from its log with the production code, which takes as long as the run."""


def _families(_: click.Context, __: click.Parameter, text: str) -> Collection[Family]:
    if text == EVERYTHING:
        return ALL_FAULTS
    names = [] if text == NOTHING else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in ALL_FAULTS]
    if unknown:
        known = ", ".join(sorted(ALL_FAULTS))
        raise click.BadParameter(f"expected some of {known}, found {', '.join(unknown)}")
    return frozenset(Family(name) for name in names)


@command()
@click.option("--seed", type=int, metavar="NUMBER", help="The first seed; default: a random one.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of runs, with consecutive seeds.",
)
@click.option(
    "--hosts",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Number of hosts.",
)
@click.option(
    "--days",
    type=click.FloatRange(min=0.01),
    default=0.25,
    show_default=True,
    metavar="DAYS",
    help="Simulated time of each run.",
)
@click.option(
    "--faults",
    callback=_families,
    default=EVERYTHING,
    show_default=True,
    metavar="FAMILIES",
    help=f"Faults to inject: {', '.join(sorted(ALL_FAULTS))}; or all, or none.",
)
@click.option(
    "--control-planes",
    type=click.IntRange(min=1, max=2),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of control planes on one store; the fault leadership needs two.",
)
@click.option(
    "--crash-points",
    is_flag=True,
    help="Instead: run two scripted rollouts, with a rollback and with a recall, killing each side at each step.",
)
@printing(
    "one object a run, with seed, hostDays, events, digest and broken; then one with runs, broken, events and hostDays;"
    " of crash points: points, violations and byBoundary"
)
def simulate(
    output: Output,
    seed: int | None,
    seeds: int,
    hosts: int,
    days: float,
    faults: Collection[Family],
    control_planes: int,
    crash_points: bool,
) -> None:
    """Run simulated fleets under faults.

    Runs the production engines in virtual time and checks every promise after every step. The same seed and version
    give the same trace, byte for byte.

    Exit codes: 0 every promise held; 1 one was broken, with the smallest history found; 2 usage error.
    """
    if crash_points:
        _go_through_crash_points(output)
    else:
        _simulate(output, seed, seeds, hosts, days, faults, control_planes)


def _go_through_crash_points(output: Output) -> None:
    counts, violations = Counter[str](), 0
    with progress(output, "killing each side at each step", "points") as bar:
        for point in all_crash_points():
            counts[point.boundary.value] += 1
            bar.noted(1)
            if point.broken is not None:
                violations += 1
                with bar.hidden():
                    note(f"{point.die_at}: {point.broken}")
    output.show(
        {"points": counts.total(), "violations": violations, "byBoundary": dict(counts)},
        [
            *(f"{boundary:<40}{count:>6}" for boundary, count in sorted(counts.items())),
            f"{counts.total()} points, {violations} violations",
        ],
    )
    if violations:
        sys.exit(EXIT_BROKEN)


def _simulate(
    output: Output,
    seed: int | None,
    seeds: int,
    hosts: int,
    days: float,
    faults: Collection[Family],
    control_planes: int,
) -> None:
    # A fleet is a tree of long-lived small objects: the collector runs often and finds nothing.
    gc.set_threshold(100_000, 50, 1_000)
    first = secrets.randbits(SEED_BITS) if seed is None else seed
    if not output.as_json:
        show_lines([f"seed {first}"])
    began, totals = time.monotonic(), Totals()
    broken: Outcome | None = None
    with progress(output, "simulating", "runs", seeds) as bar:
        for each in range(first, first + seeds):
            rebuilds = seeds == 1 or each % REBUILDS_EVERY == 0
            outcome = run(draw(each, hosts, days, faults, control_planes), rebuilds=rebuilds)
            totals.add(outcome)
            bar.noted(1)
            with bar.hidden():
                output.show(_value(outcome), [_progress(outcome)])
            if outcome.broken is not None:
                broken = outcome
                break
    output.show(
        {
            "runs": totals.runs,
            "broken": totals.broken,
            "events": totals.events,
            "hostDays": totals.host_days,
        },
        ["", *totals.lines(time.monotonic() - began)],
    )
    if broken is not None and broken.broken is not None:
        _explain(broken.scenario, broken.broken)
        sys.exit(EXIT_BROKEN)


def _explain(scenario: Scenario, broken: PromiseBroken) -> None:
    """Shrink the history, and show it step by step and as a test."""
    show_lines(["", f"seed {scenario.seed} breaks a promise.", f"  {broken}"])
    note("shrinking the history …")
    smallest = minimise(scenario, broken)
    steps = run(smallest, keeps_lines=True)
    count = f"{len(smallest.acts)} of {len(scenario.acts)} acts, {len(smallest.hosts)} hosts"
    show_lines(["", f"The smallest history found ({count}):"])
    show_lines(f"  {line}" for line in story(steps))
    show_lines(["", "As a test:", ""])
    show_lines(pasteable_test(smallest, broken))


def _value(outcome: Outcome) -> object:
    return {
        "seed": outcome.scenario.seed,
        "hostDays": outcome.host_days,
        "events": outcome.events,
        "digest": outcome.trace.digest(),
        "broken": None if outcome.broken is None else str(outcome.broken),
    }


def _progress(outcome: Outcome) -> str:
    verdict = "every promise held" if outcome.broken is None else f"BROKEN {outcome.broken}"
    return (
        f"seed {outcome.scenario.seed}  {outcome.host_days:6.2f} host-days  {outcome.events:>9,} events  "
        f"{outcome.trace.digest()[:16]}  {verdict}"
    )
