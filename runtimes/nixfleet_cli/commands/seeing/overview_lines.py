"""An overview and a host as lines of text. Sentences are the control plane's; escaped where they are printed."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from nixfleet_cli.shared.output import shown_time
from nixfleet_runtime.fact_words import short
from nixfleet_runtime.http.host_pages import (
    HostRecordPage,
    HostWhole,
    Moment,
    ShownGate,
    ShownProbe,
)
from nixfleet_runtime.http.overview import (
    FleetCounts,
    Need,
    Overview,
    OverviewWave,
    RolloutOverview,
    WaitingHosts,
)


def overview_lines(shown: Overview) -> Iterator[str]:
    """Yield how the fleet stands: each rollout, and what needs a person."""
    for rollout in shown.rollouts:
        yield from _rollout(rollout)
        yield ""
    if not shown.rollouts:
        yield "No rollout is under way."
    yield from _needs("Needs you, of the fleet:", shown.needs_you)
    fleet = shown.fleet
    yield (
        f"{known_hosts(fleet)}, {fleet.silent:,} silent, {fleet.refusing:,} do not act on something, "
        f"{fleet.knocking:,} refused at enrollment. Row {shown.head:,} of the log, {shown_time(shown.now)}."
    )
    if shown.leader is not None:
        yield f"{shown.leader.url} leads, epoch {shown.leader.epoch}."


def known_hosts(fleet: FleetCounts) -> str:
    """Return how many hosts have a key: `4 hosts enrolled, 2 with a declared key`."""
    if not fleet.declared:
        return f"{fleet.enrolled:,} hosts enrolled"
    if not fleet.enrolled:
        return f"{fleet.declared:,} hosts with a declared key"
    return f"{fleet.enrolled:,} hosts enrolled, {fleet.declared:,} with a declared key"


def host_lines(host: HostWhole) -> Iterator[str]:
    """Yield everything that is known of a host."""
    yield from host.lines
    for record in host.records:
        yield ""
        yield from _record(record)


def _rollout(rollout: RolloutOverview) -> Iterator[str]:
    yield rollout.headline
    yield f"  {', '.join(_facts(rollout))}"
    for wave in rollout.waves:
        yield f"  {_wave(wave)}"
    yield from _needs("  Needs you:", rollout.needs_you)
    if rollout.waits:
        yield "  Why hosts wait:"
        yield from (f"    {_waiting(group)}" for group in rollout.waits)
    if rollout.more_waiting:
        yield f"    {rollout.more_waiting:,} hosts for other reasons"
    if rollout.risk is not None:
        yield "  If it went wrong now:"
        yield from (f"    {line}" for line in rollout.risk.lines)
    if rollout.next:
        yield "  What comes next:"
        yield from (f"    {shown_time(edge.at)}  {edge.text}" for edge in rollout.next)


def _facts(rollout: RolloutOverview) -> Iterator[str]:
    yield f"{rollout.percent} % done"
    yield f"opened {shown_time(rollout.opened_at)}"
    if rollout.author is not None:
        yield f"by {rollout.author}"
    if rollout.closure is not None:
        yield short(rollout.closure)
    elif rollout.closures:
        yield f"{rollout.closures:,} closures"
    if rollout.on_failure is not None:
        yield f"on failure {rollout.on_failure}"
    yield from (f"{count:,} {standing}" for standing, count in rollout.standings.items())


def _wave(wave: OverviewWave) -> str:
    name = "in no wave" if wave.wave is None else f"wave {wave.wave}"
    states = ", ".join(f"{count:,} {state}" for state, count in wave.states.items() if count)
    others = "".join(f", {count:,} {standing}" for standing, count in wave.standings.items())
    failed = f"{wave.failed:,} failed of {wave.allowed:,} allowed"
    soak = f"soak {wave.soak_seconds // 60} min"
    return f"{name}, {wave.text}: {states or 'no host counts'}{others}; {failed}; {soak}"


def _needs(heading: str, needs: tuple[Need, ...]) -> Iterator[str]:
    if not needs:
        return
    yield heading
    indent = " " * (len(heading) - len(heading.lstrip()) + 2)
    for need in needs:
        between = _between(need.since, need.until)
        yield f"{indent}{need.text.removesuffix('.')}{between}."
        who = f" ({' or '.join(need.who)})" if need.who else ""
        command = "" if need.command is None else f" `nixfleet operator {need.command}`"
        yield f"{indent}  {need.answer}{who}{command}"


def _waiting(group: WaitingHosts) -> str:
    hosts = "1 host" if group.hosts == 1 else f"{group.hosts:,} hosts"
    detail = f" ({group.detail})" if group.detail else ""
    return f"{hosts}: {group.reason}{detail}, {group.gate}{_between(group.since, group.until)}"


def _between(since: datetime | None, until: datetime | None) -> str:
    begins = "" if since is None else f", since {shown_time(since)}"
    return begins if until is None else f"{begins}, until {shown_time(until)}"


def _record(record: HostRecordPage) -> Iterator[str]:
    yield f"{record.rollout_id}: {record.headline}"
    runs = "not known" if record.runs is None else short(record.runs)
    drifted = " (drifted)" if record.is_drifted else ""
    yield f"  runs {runs}{drifted}, should run {short(record.should_run)}"
    yield from (f"  {line}" for gate in record.gates for line in _gate(gate))
    yield from (f"  {shown_time(moment.at)}  {_moment(moment)}" for moment in record.moments)
    yield from (f"  {_probe(probe)}" for probe in record.probes)
    if record.failure is not None:
        yield f"  it failed: {record.failure.text}"
        yield from (f"    {line}" for line in _tail(record.failure.stderr_tail))
    if record.rows:
        yield "  its latest rows of the log:"
    for row in record.rows:
        signed = "" if row.signature is None else ", signed"
        yield f"    {row.seq}  {shown_time(row.ts)}  {row.actor} {row.text}{signed}"


def _moment(moment: Moment) -> str:
    """Return what happened, in words: `switch began`."""
    return moment.kind.value.replace("-", " ")


def _gate(gate: ShownGate) -> Iterator[str]:
    detail = f" ({gate.detail})" if gate.detail else ""
    yield f"{gate.gate}: {gate.reason}{detail}{_between(gate.since, gate.until)}"
    yield f"  {gate.frees}"


def _probe(probe: ShownProbe) -> str:
    status = "no result yet" if probe.status is None else str(probe.status)
    failing = "" if probe.failing_since is None else f" since {shown_time(probe.failing_since)}"
    reason = "" if probe.failure_reason is None else f": {probe.failure_reason}"
    return f"probe {probe.name} ({probe.kind or 'not declared'}): {status}{failing}{reason}"


def _tail(text: str | None) -> Iterable[str]:
    return () if text is None else text.splitlines()
