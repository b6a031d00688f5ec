"""The picture of `nixfleet watch`: how a rollout stands, on one screen of a terminal. Pure; sentences are the API's.

A line that does not fit is cut. A terminal that is too low has fewer lines of the log, which is elsewhere too.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from nixfleet_cli.commands.seeing.overview_lines import known_hosts
from nixfleet_cli.shared.output import shown_span
from nixfleet_cli.watch.following import Look
from nixfleet_cli.watch.hosts import NamedHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.http.forecasts import Forecast, SlowHost
from nixfleet_runtime.http.listings import ListedRow
from nixfleet_runtime.http.overview import (
    ComingEdge,
    Course,
    Need,
    Overview,
    OverviewWave,
    RolloutOverview,
    WaitingHosts,
)
from nixfleet_runtime.kernel.visible import visible
from nixfleet_state_machine.host.state import HostState

_LISTED_MAX: Final = 4
"""So many needs, reasons to wait and coming times are listed; then how many more there are."""
NO_ROLLOUT: Final = "There is no rollout to show. One is shown once it is opened."
_BAR_WIDTH: Final = 30
_COURSES: Final = {
    Course.GOING_WELL: "bold green",
    Course.COMPLETE: "bold green",
    Course.HAS_FAILURES: "bold yellow",
    Course.HELD: "bold yellow",
    Course.SUPERSEDED: "bold",
    Course.HALTED: "bold red",
    Course.ABORTED: "bold red",
    Course.LOST: "bold red",
}


class Size(NamedTuple):
    """How many characters a terminal has room for."""

    width: int
    height: int


class _Mark(NamedTuple):
    """How a state is drawn in a bar. The signs differ too, for a reader or a terminal without colours."""

    state: str
    sign: str
    style: str


_MARKS: Final = (
    _Mark(HostState.CONVERGED, "█", "green"),
    _Mark(HostState.SOAKING, "▓", "cyan"),
    _Mark(HostState.ACTIVATING, "▒", "yellow"),
    _Mark(HostState.DEFERRED, "d", "magenta"),
    _Mark(HostState.FAILED, "✗", "bold red"),
    _Mark(HostState.REVERTED, "r", "red"),
    _Mark(HostState.PENDING, "·", "dim"),
)

_MARK_OF: Final = {mark.state: mark for mark in _MARKS}
_UNKNOWN: Final = _Mark("", "?", "")
_STORY_MIN: Final = 5


def picture(
    look: Look, lines: Sequence[ListedRow], now: datetime, silence: str | None, size: Size
) -> RenderableType:
    """Return the picture. lines: of the log, the latest last. silence: why the control plane gives no answer.

    Hosts are named if there is room for all of them and some lines of the log; else those that failed are.
    """
    overview = look.overview
    parts: list[RenderableType] = [_head(overview, now, silence)]
    parts += [part for each in overview.rollouts for part in _rollout(each, look.forecast, now)]
    if not overview.rollouts:
        parts.append(_line(NO_ROLLOUT, "dim"))
    parts += _needs(overview.needs_you, now)
    story = [_story(line) for line in lines]
    parts += _hosts(look, size.width, size.height - _height(parts) - _STORY_MIN)
    taken = _height(parts) + 1
    shown = story[len(story) - min(len(story), max(size.height - taken - 1, 0)) :]
    return Group(*parts, *_section("log", shown, "", len(shown)))


def _head(overview: Overview, now: datetime, silence: str | None) -> Text:
    if silence is not None:
        as_of = f"as of {overview.now:%H:%M:%S} UTC"
        return _line(f"no answer, asked again ({as_of}): {silence}", "bold red")
    fleet = overview.fleet
    facts = [f"{now:%H:%M:%S} UTC", f"row {overview.head:,}", known_hosts(fleet)]
    facts += [f"{fleet.silent:,} silent"] if fleet.silent else []
    facts += [f"{overview.you.name}, {overview.you.role}"]
    return _line(" · ".join(facts), "dim")


def _rollout(
    rollout: RolloutOverview, forecast: Forecast | None, now: datetime
) -> Iterator[RenderableType]:
    yield Rule(style="dim")
    yield Text(visible(rollout.headline), style=_COURSES[rollout.course])
    yield _line(" · ".join(_facts(rollout, now)), "dim")
    if forecast is not None and rollout.terminal_at is None:
        yield from _forecast(rollout, forecast, now)
    yield _waves(rollout)
    yield _legend(rollout.states)
    yield from _needs(rollout.needs_you, now)
    yield from _section("why hosts wait", [_wait(it, now) for it in rollout.waits], "bold")
    if forecast is not None:
        slow = [each for each in forecast.slow if each.rollout_id == rollout.rollout_id]
        yield from _section("takes longer than usual", [_slow(it, now) for it in slow], "bold")
    yield from _section("what comes next", [_edge(it, now) for it in rollout.next], "bold")


def _facts(rollout: RolloutOverview, now: datetime) -> Iterator[str]:
    yield f"opened {rollout.opened_at:%Y-%m-%d %H:%M} UTC, {shown_span(now - rollout.opened_at)} ago"
    if rollout.author is not None:
        yield f"by {rollout.author}"
    if rollout.on_failure is not None:
        yield f"on failure {rollout.on_failure}"
    yield f"{rollout.percent} % of {rollout.total:,} done"
    if rollout.risk is not None:
        yield f"{rollout.risk.in_flight:,} under way"


def _forecast(rollout: RolloutOverview, forecast: Forecast, now: datetime) -> Iterator[Text]:
    """Yield when the rollout is likely done, as a range, and what only a person moves before."""
    found = next((it for it in forecast.rollouts if it.rollout_id == rollout.rollout_id), None)
    if found is None:
        return
    for what, span in (("95 % done", found.most), ("done", found.done)):
        if span.p10 is not None and span.p50 is not None and span.p90 is not None:
            most_likely = f"most likely {_clock(span.p50, now)}"
            text = (
                f"{what} between {_clock(span.p10, now)} and {_clock(span.p90, now)}, {most_likely}"
            )
            yield _line(f"{text} (80 of 100 of {forecast.runs} runs)", "dim")
    for reason in found.waits:
        yield _line(reason, "dim")


def _slow(slow: SlowHost, now: datetime) -> Text:
    usual = shown_span(timedelta(seconds=slow.p95_seconds))
    return _line(
        f"{slow.host} is at {slow.stage} for {shown_span(now - slow.since)}; 95 of 100 took at most {usual}"
    )


def _waves(rollout: RolloutOverview) -> Table:
    table = Table(
        Column(no_wrap=True),
        Column(no_wrap=True),
        Column(justify="right", no_wrap=True),
        Column(justify="right", no_wrap=True),
        Column(ratio=1, no_wrap=True),
        box=None,
        show_header=False,
        expand=True,
        pad_edge=False,
    )
    for wave in rollout.waves:
        name = "no wave" if wave.wave is None else f"wave {wave.wave}"
        done = f"{wave.converged:,} of {wave.total:,}"
        words = wave.waits_for or wave.text
        style = "bold" if wave.is_current else ""
        percent = f"{wave.percent} %"
        table.add_row(Text(name, style), _bar(wave), percent, done, Text(visible(words)))
    return table


def _bar(wave: OverviewWave) -> Text:
    """Return the hosts that count by state. A state that has hosts has a sign, however many others have."""
    present = {mark: wave.states[mark.state] for mark in _MARKS if wave.states.get(mark.state)}
    total = sum(present.values())
    room = _BAR_WIDTH - len(present)
    widths = {mark: 1 + room * count // total for mark, count in present.items()}
    if present:
        widths[max(present, key=present.__getitem__)] += _BAR_WIDTH - sum(widths.values())
    return Text.assemble(*((mark.sign * width, mark.style) for mark, width in widths.items()))


def _legend(states: FrozenMap[str, int]) -> Text:
    legend = Text(no_wrap=True, overflow="ellipsis")
    for mark in _MARKS:
        if count := states.get(mark.state, 0):
            legend.append(f"{mark.sign} ", mark.style)
            legend.append(f"{mark.state} {count:,}   ")
    return legend


def _needs(needs: Sequence[Need], now: datetime) -> list[RenderableType]:
    """Return each need with what answers it on a line of its own, which is not cut: a command is to be copied."""
    shown = list[RenderableType]()
    for need in needs[:_LISTED_MAX]:
        since = "" if need.since is None else f" (for {shown_span(now - need.since)})"
        what = need.answer if need.command is None else f"nixfleet operator {need.command}"
        shown += [*_indented([_line(f"{need.text}{since}")]), Text(visible(f"    {what}"), "bold")]
    if len(needs) > _LISTED_MAX:
        shown.append(_line(f"  and {len(needs) - _LISTED_MAX} more", "dim"))
    return [Text("needs you", style="bold red"), *shown] if shown else []


def _wait(waiting: WaitingHosts, now: datetime) -> Text:
    until = "" if waiting.until is None else f", until {_clock(waiting.until, now)}"
    since = "" if waiting.since is None else f", for {shown_span(now - waiting.since)}"
    detail = f": {waiting.detail}" if waiting.detail else ""
    unit = "host" if waiting.hosts == 1 else "hosts"
    return _line(
        f"{waiting.hosts:,} {unit}: {waiting.reason} ({waiting.gate}{detail}{since}{until})"
    )


def _edge(edge: ComingEdge, now: datetime) -> Text:
    return _line(f"{_clock(edge.at, now)}  {edge.text}")


def _story(line: ListedRow) -> Text:
    who = line.actor or line.host or ""
    style = {"act": "bold red", "warning": "yellow", "routine": "dim"}.get(line.severity or "", "")
    return _line(f"{line.ts:%H:%M:%S}  {who} {line.text or line.kind}", style)


def _clock(at: datetime, now: datetime) -> str:
    """Return a time as a clock has it, with its day if that is another one."""
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def _section(
    title: str, lines: Sequence[Text], style: str, listed_max: int = _LISTED_MAX
) -> list[RenderableType]:
    if not lines:
        return []
    more = len(lines) - listed_max
    rest = [_line(f"and {more} more", "dim")] if more > 0 else []
    return [Text(title, style=style or "dim"), *_indented([*lines[:listed_max], *rest])]


def _indented(lines: Sequence[Text]) -> Iterator[Text]:
    for line in lines:
        indented = Text("  ", no_wrap=True, overflow="ellipsis")
        indented.append_text(line)
        yield indented


def _line(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style, no_wrap=True, overflow="ellipsis")


def _hosts(look: Look, width: int, rows_max: int) -> list[RenderableType]:
    hosts = [
        host for each in look.overview.rollouts for host in look.hosts.get(each.rollout_id, ())
    ]
    grid = _grid(hosts, width)
    if len(grid) > rows_max:
        grid = _grid([host for host in hosts if host.has_failed], width)
        return _section("failed hosts", grid, "bold red")
    return _section("hosts", grid, "bold", len(grid))


def _grid(hosts: Sequence[NamedHost], width: int) -> list[Text]:
    """Return the hosts in columns, each with the sign of its state."""
    cell = max((len(visible(host.name)) for host in hosts), default=0) + 4
    columns = max((width - 2) // cell, 1)
    lines = list[Text]()
    for begin in range(0, len(hosts), columns):
        line = Text(no_wrap=True, overflow="ellipsis")
        for host in hosts[begin : begin + columns]:
            mark = _MARK_OF.get(host.state, _UNKNOWN)
            line.append(f"{mark.sign} ", mark.style)
            line.append(visible(host.name).ljust(cell - 2))
        lines.append(line)
    return lines


def _height(parts: Sequence[RenderableType]) -> int:
    return sum(part.row_count if isinstance(part, Table) else 1 for part in parts)
