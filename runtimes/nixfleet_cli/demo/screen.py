"""What the demonstration shows while it runs: a table that lives in a terminal, plain lines everywhere else.

Both tell what the log says and nothing else. The words are those of `nixfleet log show`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from attrs import frozen
from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import AppliedEntry
from nixfleet_control_plane.history.narration import brief_line_of, line_of
from nixfleet_control_plane.messages.log_entry import Commanded, Deferred, HoldMoved, RolloutMoved
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_runtime.fact_words import short
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.visible import visible
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.rollout.event import HostsLapsed, RetryOrdered, StandingChanged, Verdict
from nixfleet_state_machine.rollout.state import RolloutRecord

_LINES_SHOWN_MAX = 6
_COUNTS_OTHERWISE = (HostsLapsed, RetryOrdered, StandingChanged, Verdict)
_STYLES = {
    HostState.PENDING: "dim",
    HostState.ACTIVATING: "yellow",
    HostState.DEFERRED: "magenta",
    HostState.SOAKING: "cyan",
    HostState.CONVERGED: "green",
    HostState.FAILED: "bold red",
    HostState.REVERTED: "red",
}


class Screen(Protocol):
    """Where the demonstration shows what happens."""

    def begin(self, chapter: str) -> None:
        """A new part of the story begins."""
        ...

    def show(self, applied: AppliedEntry) -> None:
        """The log says this."""
        ...

    def refresh(self, state: State) -> None:
        """The fleet stands like this now."""
        ...


class Lines:
    """For pipes, files and CI: a line for whatever changed."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, chapter: str) -> None:
        self._print(f"\n{chapter}")

    def show(self, applied: AppliedEntry) -> None:
        if is_change(applied):
            self._print(visible(line_of(applied)))

    def refresh(self, state: State) -> None:
        pass

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveTable:
    """For terminals: every host with what it does or waits for, and the latest lines of the log."""

    def __init__(self, live: Live, clock: Clock, hostnames: Sequence[str]) -> None:
        self._live = live
        self._clock = clock
        self._hostnames = hostnames
        self._lines = deque[str](maxlen=_LINES_SHOWN_MAX)

    def begin(self, chapter: str) -> None:
        self._live.console.print(chapter, style="bold", markup=False, highlight=False)

    def show(self, applied: AppliedEntry) -> None:
        if is_change(applied):
            self._lines.append(visible(brief_line_of(applied)))

    def refresh(self, state: State) -> None:
        rollout = _newest(state)
        title = "" if rollout is None else _title(state, rollout)
        lines = Text("\n".join(self._lines), style="dim", no_wrap=True, overflow="ellipsis")
        now = f"{self._clock.now():%H:%M:%S}"
        heading = Rule(Text(visible(f"{now}  {title}")))
        content = (heading, self._table(state, rollout), Rule("log"), lines)
        self._live.update(Group(*content), refresh=True)

    def _table(self, state: State, rollout: RolloutRecord | None) -> Table:
        table = Table(*_columns(), box=None, expand=True)
        for hostname in self._hostnames:
            row = _row(state, rollout, hostname)
            state_text = Text(row.state, style=row.style)
            runs, why = Text(visible(row.runs)), Text(visible(row.why), no_wrap=True)
            table.add_row(Text(visible(hostname)), row.wave, state_text, runs, why)
        return table


def _columns() -> tuple[Column, ...]:
    # As wide from the start as they will need: a table whose columns jump cannot be read.
    return (
        Column("host"),
        Column("wave"),
        Column("state", min_width=max(map(len, HostState))),
        Column("runs", min_width=len(short(f"{'0' * 52}-shop-0"))),
        Column("why", ratio=1),
    )


@contextmanager
def screen_for(console: Console, clock: Clock, hostnames: Sequence[str]) -> Iterator[Screen]:
    """Show what happens on `console`, as suits it, while the context is open."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield LiveTable(live, clock, hostnames)


def is_change(applied: AppliedEntry) -> bool:
    """Whether something is now otherwise: a host or rollout moved, waits for something else, or counts otherwise.

    So is what a judge or an operator says, and a hold.
    """
    entry = applied.logged.entry
    if isinstance(entry, RolloutMoved) and isinstance(entry.event, _COUNTS_OTHERWISE):
        return True
    return applied.is_move or isinstance(entry, Deferred | HoldMoved | Commanded)


@frozen
class _Row:
    wave: str = ""
    state: str = ""
    style: str = ""
    runs: str = ""
    why: str = ""


def _row(state: State, rollout: RolloutRecord | None, hostname: str) -> _Row:
    record = None if rollout is None else state.view.host(rollout.rollout_id, hostname)
    if record is None:
        return _Row()
    wave = state.view.terms(record.rollout_id).wave_of[hostname]
    runs = short(_running(state, hostname) or "")
    return _Row(str(wave), record.state, _STYLES[record.state], runs, _why(state, record))


def _why(state: State, record: HostRolloutState) -> str:
    failing = [
        f"{name}: {probe.failure_reason}"
        for name, probe in record.probes.items()
        if probe.status is ProbeStatus.FAIL
    ]
    if failing:
        return "; ".join(failing)
    if record.state is HostState.SOAKING:
        end = soak_end_of(record)
        return "soaks" if end is None else f"soaks until {end:%H:%M:%S}"
    deferral = state.deferrals.get((record.rollout_id, record.hostname))
    return "" if deferral is None else f"{deferral.gate}: {deferral.reason}"


def _running(state: State, hostname: str) -> str | None:
    """What the host runs, by the latest word of its agent."""
    records = (state.view.host(it.rollout_id, hostname) for it in _newest_first(state))
    known = (it.current_closure or it.current_closure_at_dispatch for it in records if it)
    return next(filter(None, known), None)


def _title(state: State, rollout: RolloutRecord) -> str:
    last_wave = state.view.terms(rollout.rollout_id).last_wave
    return f"{rollout.rollout_id} is {rollout.state}, wave {rollout.current_wave} of 0–{last_wave}"


def _newest(state: State) -> RolloutRecord | None:
    return next(iter(_newest_first(state)), None)


def _newest_first(state: State) -> list[RolloutRecord]:
    rollouts = state.view.rollouts.values()
    return sorted(rollouts, key=lambda it: it.opened_event_log_seq, reverse=True)
