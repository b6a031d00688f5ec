"""`python -m benchmarks`: each workload in a process of its own, then one table, one file, one picture.

What a workload leaves behind (a heap, loaded modules, an event loop) is no neighbour to the next.
"""

import argparse
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from benchmarks import report
from benchmarks.harness import FULL, QUICK, TINY, Figure, Scale, from_json, to_json
from benchmarks.machine import described

WORKLOADS = (
    "step",
    "step_many_hosts",
    "durable_ingest",
    "postgres_ingest",
    "http_ingest",
    "long_poll",
    "nats_delivery",
    "replay",
    "cold_start",
    "plan",
    "overview",
    "viewers",
    "freeze",
    "growth",
    "log_size",
    "signed_again",
    "year",
    "memory",
    "forecasts",
    "import_time",
    "nar",
)
SCALES = {scale.name: scale for scale in (FULL, QUICK, TINY)}
RESULTS = Path("benchmarks/results/latest.json")
PAGE = Path("docs/explanation/performance.md")
PICTURE = Path("docs/explanation/performance.svg")


def main() -> int:
    """Measure, show, and (with every workload) write what the documentation shows, and at which scale.

    Returns 1 if a ratio is not as it should be. Rates and times are shown beside what they aim at: they are also those
    of the machine, and of what else runs on it.
    """
    options = _options()
    scale: Scale = SCALES[options.scale]
    if options.child:
        print(to_json(figures_of(options.only[0], scale)))
        return 0
    machine = {**described(), "scale": scale.name}
    names = options.only or WORKLOADS
    figures: list[Figure] = []
    for name in names:
        begun = perf_counter()
        figures += _measured(name, scale)
        print(f"{name}: {perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print(report.as_text(machine, figures))
    if options.write:
        _write(machine, figures)
    missed = report.missed(figures)
    for figure in missed:
        print(f"MISSED: {figure.workload}, {figure.name}", file=sys.stderr)
    return 1 if missed else 0


def figures_of(name: str, scale: Scale) -> list[Figure]:
    """Return what one workload measures, in this process."""
    return list(import_module(f"benchmarks.{name}").figures(scale))


def _measured(name: str, scale: Scale) -> list[Figure]:
    command = [sys.executable, "-m", "benchmarks", "--child", "--only", name, "--scale", scale.name]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return from_json(done.stdout)


def _write(machine: dict[str, str], figures: list[Figure]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    report.keep(RESULTS, machine, figures)
    report.put_into(PAGE, report.as_markdown(machine, figures))
    if find_spec("matplotlib") is not None:
        import_module("benchmarks.picture").draw(figures, PICTURE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", choices=WORKLOADS)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick")
    parser.add_argument(
        "--write", action="store_true", help="rewrite the results, the page, the picture"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
