"""The totals of many runs, as lines. It prints nothing."""

from collections import Counter
from collections.abc import Iterator

from nixfleet_simulation.run.run import Outcome

LABEL_WIDTH = 22


class Totals:
    """The sum of outcomes."""

    def __init__(self) -> None:
        self.runs = 0
        self.broken = 0
        self.events = 0
        self.facts = 0
        self.checks = 0
        self.host_days = 0.0
        self.cpu_seconds = 0.0
        self.until_rest_peak = 0.0
        self.until_done_peak = 0.0
        self.faults: Counter[str] = Counter()
        self.rollouts: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count one more run."""
        self.runs += 1
        self.broken += outcome.broken is not None
        self.events += outcome.events
        self.facts += outcome.facts
        self.checks += outcome.checks
        self.host_days += outcome.host_days
        self.cpu_seconds += outcome.cpu_seconds
        self.faults += outcome.faults
        self.rollouts += outcome.rollouts
        if outcome.rest is not None:
            self.until_rest_peak = max(self.until_rest_peak, outcome.rest.until_rest)
            self.until_done_peak = max(self.until_done_peak, outcome.rest.until_done)

    def lines(self, wall_seconds: float) -> Iterator[str]:
        """Yield the summary."""
        figures = (
            ("runs", f"{self.runs:,}"),
            (
                "simulated host-days",
                f"{self.host_days:,.1f} ({self.host_days / 365:.2f} host-years)",
            ),
            ("events", f"{self.events:,} ({_rate(self.events, self.cpu_seconds)}/s of CPU)"),
            ("facts", f"{self.facts:,}"),
            ("faults", f"{self.faults.total():,}: {_counts(self.faults)}"),
            ("rollouts", f"{self.rollouts.total():,}: {_counts(self.rollouts)}"),
            ("invariants checked", f"{self.checks:,}"),
            (
                "settled within",
                f"{self.until_rest_peak:,.0f} s after the last fault; the next release is complete in "
                f"{self.until_done_peak:,.0f} s",
            ),
            ("time", f"{wall_seconds:,.1f} s, {self.cpu_seconds:,.1f} s of CPU"),
            ("promises broken", f"{self.broken}"),
        )
        for label, figure in figures:
            yield f"{label:<{LABEL_WIDTH}}{figure}"


def _rate(events: int, seconds: float) -> str:
    return f"{events / seconds:,.0f}" if seconds else "?"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items())) or "none"
