"""How good the contracts are: each planted bug, and the test that caught it.

`python -m tests.contracts.kill_rate` prints that as a table.

The planted bugs are run by pytest itself, in a process of its own, so what is judged is what an embedder would see.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from attrs import frozen

SEEDED = Path(__file__).parent / "seeded"
PORTS = tuple(sorted(file.stem for file in SEEDED.glob("*.py") if file.stem != "conftest"))
RUN_SECONDS_MAX = 300
# What writes to a disk that is a memory takes half of the time, and none of this is about disks.
_FAST_DISK = Path("/dev/shm")
_UNUSED_PLUGINS = ("cacheprovider", "hypothesispytest", "xdist", "cov", "anyio")


@frozen
class Seeded:
    """A planted bug: what it does wrong, and words that a failure must have to tell its author so."""

    port: str
    name: str
    does: str
    says: str


@frozen
class Failure:
    """A test that failed on the planted bug `name`."""

    name: str
    test: str
    message: str


def seeded_bugs(port: str) -> tuple[Seeded, ...]:
    """Return the planted bugs of one kind of port."""
    module = import_module(f"tests.contracts.seeded.{port}")
    return tuple(
        Seeded(port, name, _sentence(kind), kind.says)
        for name, kind in vars(module).items()
        if name.startswith("Test")
    )


def failures_of(ports: Sequence[str]) -> tuple[Failure, ...]:
    """Run the contracts against the planted bugs of `ports`, and return which tests failed."""
    fast_disk = _FAST_DISK if _FAST_DISK.is_dir() else None
    with TemporaryDirectory(dir=fast_disk, prefix="nixfleet-seeded-") as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", "--tb=no"]
        command += [f"--basetemp={directory}/tests"]
        command += [f"-pno:{plugin}" for plugin in _UNUSED_PLUGINS]
        command += [str(SEEDED / f"{port}.py") for port in ports]
        done = subprocess.run(
            command,
            cwd=SEEDED.parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS_MAX,
        )
        # 1: tests failed, as they should. Anything else is a fault of this run.
        assert done.returncode == 1, done.stdout + done.stderr
        return tuple(_failures_in(report))


def caught_by(bug: Seeded, failures: Sequence[Failure]) -> str | None:
    """Return the first test that failed on `bug` and said what is wrong, `None` when there is none."""
    for failure in failures:
        if failure.name == bug.name and bug.says in failure.message:
            return failure.test
    return None


def table() -> str:
    """Return, as Markdown, every planted bug with the test that caught it."""
    lines = ["| port | planted bug | caught by |", "| --- | --- | --- |"]
    counts: Counter[bool] = Counter()
    for port in PORTS:
        failures = failures_of([port])
        for bug in seeded_bugs(port):
            test = caught_by(bug, failures)
            counts[test is not None] += 1
            lines.append(f"| {port} | {bug.does} | {f'`{test}`' if test else '**nothing**'} |")
    caught = f"{counts[True]} of {counts.total()} planted bugs are caught."
    return "\n".join([caught, "", *lines])


def _failures_in(report: Path) -> Iterator[Failure]:
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["classname"].rpartition(".")[2]
        for failed in case.iter("failure"):
            yield Failure(name, case.attrib["name"].partition("[")[0], failed.attrib["message"])


def _sentence(kind: type) -> str:
    return (kind.__doc__ or "").strip()


if __name__ == "__main__":
    print(table())  # noqa: T201
