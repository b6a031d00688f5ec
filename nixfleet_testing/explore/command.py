"""The command: bounds in, figures out, and a readable path if a law is broken. The one place with a clock."""

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from attrs import frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.checked import WordEnum
from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.policy import AtDeadline
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.search import Finding, Report, explore

EPILOG = """\
examples:
  --hosts 3 --waves 2 --pause --clear --retire        operators at any moment
  --hosts 3 --waves 1 --budget 1 --pause              one slot for three hosts
  --hosts 2 --waves 2 --releases 2 --on-the-way 2     a successor arrives
  --hosts 3 --waves 2 --tolerance 1 --attempts 2      one host of a wave may fail, and each tries twice
  --hosts 2 --waves 2 --deadline ack --then skip      a host is off for a while
  --hosts 2 --waves 2 --on-drift restore --on-the-way 1  a host runs something else
  --hosts 3 --waves 2 --leaver --probe-runs 0         a host leaves and joins again
  --hosts 2 --waves 2 --timed --pause                 waves with a time

Exit status: 0 when every law holds in every world, 1 when one is broken, 2 when not every world was seen.
"""


@frozen
class Timed:
    report: Report
    seconds: float


def main(arguments: list[str]) -> int:
    """Explore as `arguments` say, print the result, and return the exit status."""
    options = _parser().parse_args(arguments)
    policy: str = options.policy
    policies = [each for each in OnHealthFailure if policy in (each.value, "both")]
    try:
        worlds = [_bounds(options, each) for each in policies]
    except ValueError as error:
        _parser().error(str(error))
    run = partial(_timed, symmetric=not options.no_symmetry, states_max=options.states_max)
    # Not forked: a process that has threads, like a test runner, must not be.
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=len(worlds), mp_context=spawning) as pool:
        results = list(pool.map(run, worlds))
    for timed in results:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(timed)))
    if any(timed.report.finding is not None for timed in results):
        return 1
    return 0 if all(timed.report.is_complete for timed in results) else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nixfleet_testing.explore",
        description="Walk every interleaving of a bounded world through the real reducers and the planner.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    number, flag = partial(parser.add_argument, type=int, metavar="N"), parser.add_argument
    number("--hosts", default=3, help="hosts of the channel (3)")
    number("--waves", default=2, help="waves they are in (2)")
    number("--releases", default=1, help="releases that CI publishes, at any moment (1)")
    number(
        "--probe-runs", default=1, help="results of each host's one enforce probe (1); 0: no probe"
    )
    number("--on-the-way", help="facts that a host may be ahead of its mirror (all)")
    number("--budget", help="hosts in flight at once (no budget)")
    number("--ramp", help="slots of the budget at first, doubling as hosts converge (all at once)")
    number("--per-minute", help="hosts that begin until a minute passes (any number)")
    policies = ["both", *(policy.value for policy in OnHealthFailure)]
    flag(
        "--policy", choices=policies, default="both", help="on health failure (both, side by side)"
    )
    flag("--edges", action="store_true", help="each host waits for the one before it in its wave")
    flag("--own-closures", action="store_true", help="each host has a closure of its own")
    flag("--deferral", action="store_true", help="a switch may have to wait for a reboot")
    flag("--pause", action="store_true", help="operators pause and resume the channel")
    flag("--clear", action="store_true", help="operators clear halted rollouts")
    flag("--retire", action="store_true", help="operators retire quarantines")
    flag("--abort", action="store_true", help="operators abort rollouts")
    number("--tolerance", default=0, help="hosts of each wave that may fail (0)")
    number("--attempts", default=1, help="how often a host may try (1)")
    flag(
        "--deadline",
        type=Stage,
        metavar="STAGE",
        help=f"the stage with a deadline: {_named(Stage)}",
    )
    flag(
        "--then",
        type=AtDeadline,
        metavar="WHAT",
        default=AtDeadline.SKIP,
        help=f"what follows: {_named(AtDeadline)} (skip)",
    )
    flag(
        "--on-drift",
        type=OnDrift,
        metavar="WHAT",
        help=f"hosts drift, and what follows: {_named(OnDrift)}",
    )
    flag("--leaver", action="store_true", help="a host of the first wave leaves and joins again")
    flag(
        "--guarded",
        action="store_true",
        help="each wave needs an approval, and operators approve or deny",
    )
    flag("--bakes", action="store_true", help="each wave waits until its bake is over")
    flag("--checked", action="store_true", help="each wave needs two passes of a check in a row")
    flag("--timed", action="store_true", help="each wave has a time before which it does not begin")
    flag("--every-fact", action="store_true", help="also facts that change no state")
    flag("--no-symmetry", action="store_true", help="tell hosts of one wave apart")
    number("--states-max", help="give up after so many worlds")
    return parser


def _named(words: Iterable[WordEnum]) -> str:
    return ", ".join(word.value for word in words)


def _bounds(options: argparse.Namespace, policy: OnHealthFailure) -> Bounds:
    return Bounds(
        hosts=options.hosts,
        waves=options.waves,
        policy=policy,
        releases=options.releases,
        probe_runs=options.probe_runs,
        on_the_way=options.on_the_way,
        budget=options.budget,
        edges=options.edges,
        own_closures=options.own_closures,
        deferral=options.deferral,
        pause=options.pause,
        clear=options.clear,
        retire=options.retire,
        abort=options.abort,
        every_fact=options.every_fact,
        tolerance=options.tolerance,
        deadline=options.deadline,
        then=options.then,
        attempts=options.attempts,
        on_drift=options.on_drift,
        leaver=options.leaver,
        timed=options.timed,
        guarded=options.guarded,
        bakes=options.bakes,
        checked=options.checked,
        ramp=None if options.ramp is None else (options.ramp, 2),
        per_minute=options.per_minute,
    )


def _timed(bounds: Bounds, *, symmetric: bool, states_max: int | None) -> Timed:
    # Millions of worlds are integers in one dict: there is nothing for the collector in them.
    gc.set_threshold(100_000, 50, 1000)
    started = time.process_time()
    report = explore(bounds, symmetric=symmetric, states_max=states_max)
    return Timed(report, time.process_time() - started)


def _lines(timed: Timed) -> Iterator[str]:
    report = timed.report
    yield (
        f"{report.bounds.policy.value:<17}  {report.states:>10,} states  "
        f"{report.transitions:>11,} transitions  depth {report.depth:>2}  {timed.seconds:7.1f} s of CPU  "
        f"{_verdict(report)}"
    )
    if report.finding is not None:
        yield from _story(report.finding)


def _verdict(report: Report) -> str:
    if report.finding is not None:
        return "a law is broken"
    return "every law holds" if report.is_complete else "not every world was seen"


def _story(finding: Finding) -> Iterator[str]:
    yield f"  law    {finding.law}"
    yield f"  found  {finding.found}"
    yield f"  after  {len(finding.path)} moves, and no fewer:"
    for number, step in enumerate(finding.path, start=1):
        yield f"    {number:>2}  {step.what}"
        yield from (f"          {what}" for what in step.did)
