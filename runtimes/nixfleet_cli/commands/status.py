"""`nixfleet status`: the rollouts of a control plane, or those of one host by its agent's journal. Reads only."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta

from anyio.from_thread import start_blocking_portal
from attrs import frozen

from nixfleet_cli.journals.opening import is_journal
from nixfleet_cli.journals.status import show_journal
from nixfleet_cli.shared import arguments
from nixfleet_cli.shared.budgets import budget_rows
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import DATABASE, reading, store_argument
from nixfleet_cli.shared.file_versions import Versions, versions_of
from nixfleet_cli.shared.output import (
    ROWS_MAX,
    Output,
    Row,
    printing,
    section,
    shown_span,
    shown_time,
)
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.engine.guard_verdicts import guarded_rollout
from nixfleet_control_plane.engine.in_force import in_force
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.narration import named
from nixfleet_control_plane.history.retention.exportable import Need, first_need
from nixfleet_control_plane.leadership.lease import LeaseSeen
from nixfleet_control_plane.messages.entry_codec import time_of
from nixfleet_control_plane.messages.inputs import InForce
from nixfleet_control_plane.messages.log_entry import ArtefactRefused, LoggedEntry
from nixfleet_control_plane.reading.stored_log import StoredLog
from nixfleet_control_plane.store.queries import Quarantined, Waiting, open_for_reading
from nixfleet_proto.freshness import freshness_window
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import CLOCK_SKEW
from nixfleet_runtime.fact_words import short
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.guards.words import guard_line, guards_line
from nixfleet_state_machine.planner.holds.hold import Hold, HoldKind
from nixfleet_state_machine.planner.pace.status import BudgetStatus, budget_statuses
from nixfleet_state_machine.planner.rollout_status import (
    OverdueHost,
    WaveStatus,
    overdue_hosts,
    standing_counts,
    tolerated_hosts,
    wave_statuses,
)
from nixfleet_state_machine.rollout.state import (
    BEFORE_FIRST_WAVE,
    Drift,
    RolloutRecord,
    RolloutState,
)


@frozen
class _Moment:
    """What is shown of a control plane, at one moment. state: at the end of the log."""

    versions: Versions
    state: State
    rollouts: tuple[RolloutRecord, ...]
    waiting: tuple[Waiting, ...]
    quarantined: tuple[Quarantined, ...]
    refused_artefacts: tuple[LoggedEntry, ...]
    log_begins_at: int
    oldest_at: datetime | None
    need: Need | None
    lease: LeaseSeen | None

    @property
    def log_rows(self) -> int:
        return self.state.head_seq - self.log_begins_at + 1


@command()
@store_argument
@arguments.at_time
@printing(
    "one object with program, version, logBeginsAt, log (with rows, oldestAt, firstNeededRow and neededBy), "
    "rollouts, waiting, overdue, drifted, quarantined, paused, heldUntil, refusedEvents, inForce and refusedReleases; "
    "of a store that several share, also leader (url, epoch); "
    "of a journal: program, version, host (with runs, shouldRun, waitsFor, probes and stages), "
    "rollouts, underWay, waitingToBeSent and refused"
)
def status(output: Output, store: StoreConfig, at_time: datetime) -> None:
    """Show rollouts and what holds their hosts.

    DB is the database of a control plane, or --config names its store: shows rollouts with their hosts by state; waves,
    with the hosts that failed and are tolerated; budgets, with the slots that are taken; overdue hosts, and what can be
    done; waiting hosts with the gate that holds them; quarantines, holds of operators, holds that end by themselves,
    refused events, what is in force and for how long hosts accept it, and refused releases. Of each the first ten, and
    how many more there are. Then how many rows the log has, the time of the oldest, and what needs the first row that
    cannot be exported and dropped.
    DB may also be an agent's journal: shows what its host runs, what it should run and what that waits for; its probes,
    and since when; the stages of its rollout, with their times; its rollouts; the activation under way; and the facts
    that wait to be sent or were refused.

    DB may be in use; the result is one moment of it. Run the command as the owner of DB: even a reader of SQLite writes
    a small file beside it.

    Exit codes: 0 success; 1 a row is damaged; 2 DB cannot be read.
    """
    if store.path is not None and is_journal(store.path):
        show_journal(output, store.path)
        return
    with reading(store, f"{DATABASE}, or an agent's journal") as stored:
        moment = _moment(stored, store)
        output.show(_value(moment, at_time), _lines(moment, at_time))


def _moment(stored: StoredLog, store: StoreConfig) -> _Moment:
    first_seq = stored.ask(lambda it: it.log_start()).first_seq
    oldest = stored.ask(lambda it: it.log_rows(None, after_seq=first_seq - 1, limit=1))
    return _Moment(
        versions_of(store),
        # Host records are written behind, so their table lags; the state of the log does not.
        stored.ask(lambda it: it.status()),
        stored.ask(lambda it: it.rollouts()),
        stored.ask(lambda it: it.deferrals()),
        stored.ask(lambda it: it.quarantines()),
        stored.ask(lambda it: it.refused_artefacts()),
        first_seq,
        time_of(oldest[0].ts) if oldest else None,
        _need(store),
        stored.ask(lambda _: store.lease()),
    )


def _need(store: StoreConfig) -> Need | None:
    """Return what keeps old rows in the log; `None`: the store drops them in its own way, or not at all."""
    if store.path is None:
        if not store.is_kept_beside:
            return None
        with start_blocking_portal() as portal:
            return portal.call(_need_by_keeper, store)
    with closing(open_for_reading(store.path)) as connection:
        return first_need(connection)


async def _need_by_keeper(store: StoreConfig) -> Need | None:
    async with store.keeping() as keeper:
        return (await keeper.kept()).need


def _lines(moment: _Moment, at: datetime) -> Iterator[str]:
    state = moment.state
    yield from rollout_lines(moment.rollouts, state)
    for title, rows in (
        ("waves", _waves(state)),
        ("budgets", _budgets(state)),
        ("overdue", map(_overdue, overdue_hosts(state.view, at))),
        ("waiting", map(_waiting, moment.waiting)),
        ("drifted", _drifted(moment.rollouts)),
        ("quarantined", map(_quarantined, moment.quarantined)),
        ("held by operators", _pauses(state)),
        ("held until", _timed(state, at)),
        ("refused events", _refused(state)),
        ("in force", _in_force(state, at)),
        ("refused releases", map(_refused_artefact, moment.refused_artefacts)),
    ):
        yield ""
        yield from section(title, rows, ROWS_MAX)
    yield ""
    yield from _log_lines(moment)
    yield moment.versions.line
    lease = moment.lease
    if lease is not None:
        yield "no leader" if lease.is_free else f"leader {lease.url}, epoch {lease.epoch}"


def _log_lines(moment: _Moment) -> Iterator[str]:
    if moment.oldest_at is not None:
        since = shown_time(moment.oldest_at)
        yield f"the log has {moment.log_rows} rows, from row {moment.log_begins_at} of {since} on"
    if moment.log_begins_at > 1:
        yield f"the log begins at row {moment.log_begins_at}: the rows before were exported and dropped"
    if moment.need is not None and moment.need.by:
        yield f"the first row that has to stay is {moment.need.seq}, for {moment.need.by}"


def rollout_lines(records: Sequence[RolloutRecord], state: State) -> Iterator[str]:
    """Yield every rollout of `records` with its hosts by state. state: at the end of the log."""
    return section("rollouts", (_rollout(state, each) for each in records))


def _rollout(state: State, record: RolloutRecord) -> Row:
    if _is_pruned(state, record):
        return record.rollout_id, record.state, "", "host records pruned"
    last_wave = state.view.terms(record.rollout_id).last_wave
    hosts = ", ".join(f"{count} {each}" for each, count in _hosts_by_state(state, record).items())
    return (
        record.rollout_id,
        record.state,
        _wave_words(record, last_wave) + _guard_words(state, record),
        hosts + _standings(record) + _attempts(state, record),
    )


def _is_pruned(state: State, record: RolloutRecord) -> bool:
    """Whether its hosts have no records any more. While its channel names it, a pruned rollout has its manifest."""
    return record.state is RolloutState.PRUNED or record.rollout_id not in state.manifests


def _wave_words(record: RolloutRecord, last_wave: int) -> str:
    if record.current_wave == BEFORE_FIRST_WAVE:
        return f"no wave of 0–{last_wave}"
    return f"wave {record.current_wave} of 0–{last_wave}"


def _guard_words(state: State, record: RolloutRecord) -> str:
    """What the next wave waits for besides the one before."""
    found = guarded_rollout(state, record.rollout_id)
    if found is None or (found.guarded.since is None and found.guarded.broken is None):
        return ""
    line = guards_line(found.guarded, found.declared, found.author)
    return f"; wave {found.guarded.wave} is guarded: {line}" if line else ""


def _guards_value(state: State, record: RolloutRecord) -> object:
    found = guarded_rollout(state, record.rollout_id)
    if found is None:
        return None
    return {
        "wave": found.guarded.wave,
        "since": found.guarded.since,
        "manifestHash": found.manifest_hash,
        "guards": [
            {
                "name": guard.name,
                "state": guard.state,
                "text": guard_line(guard, found.declared, found.author),
                "until": guard.until,
            }
            for guard in found.guarded.guards
        ],
    }


def _attempts(state: State, record: RolloutRecord) -> str:
    hosts = state.view.hosts_of(record.rollout_id)
    again = sum(max(host.attempt, record.attempt_of(host.hostname)) > 1 for host in hosts)
    return f", {again} tried again" if again else ""


def _hosts_by_state(state: State, record: RolloutRecord) -> Mapping[str, int]:
    counts = Counter(host.state for host in state.view.hosts_of(record.rollout_id))
    return {each.value: counts[each] for each in HostState if counts[each]}


def _waves(state: State) -> Iterator[Row]:
    """The waves of the rollouts that are served, with the hosts that are tolerated as failed."""
    for rollout_id in state.view.served_rollouts():
        for wave in wave_statuses(state.view, rollout_id):
            absent = f", {wave.absent} absent" if wave.absent else ""
            yield (
                rollout_id,
                "in no wave" if wave.wave is None else f"wave {wave.wave}",
                str(wave.verdict),
                f"{wave.converged} of {wave.total} converged{absent}",
                f"{wave.failed} failed of {wave.allowed} allowed"
                + _tolerated(state, rollout_id, wave),
            )


def _budgets(state: State) -> Iterator[Row]:
    for rollout_id in state.view.served_rollouts():
        yield from budget_rows(rollout_id, budget_statuses(state.view, rollout_id))


def _tolerated(state: State, rollout_id: RolloutId, wave: WaveStatus) -> str:
    hosts = tolerated_hosts(state.view, rollout_id, wave.wave)
    return f": {named(hosts)}" if hosts else ""


def _overdue(overdue: OverdueHost) -> Row:
    at = overdue.overdue_at
    why = "it has no deadline" if at is None else f"its deadline was {shown_time(at)}"
    return (
        overdue.hostname,
        overdue.rollout_id,
        f"{overdue.stage} since {shown_time(overdue.since)}, {why}",
        f'"nixfleet operator skip|excuse {overdue.rollout_id} {overdue.hostname}" goes on without it',
    )


def _standings(record: RolloutRecord) -> str:
    counts = standing_counts(record)
    return f" ({', '.join(f'{count} {it}' for it, count in counts.items())})" if counts else ""


def _waiting(waiting: Waiting) -> Row:
    reason = f"{waiting.gate}: {waiting.reason}"
    return waiting.hostname, waiting.rollout_id, reason, f"since {shown_time(waiting.since)}"


def _quarantined(row: Quarantined) -> Row:
    return (
        row.channel,
        short(row.closure),
        f"since {shown_time(row.since)}",
        f"log row {row.triggering_event_log_seq}",
        "retired by an operator" if row.cleared else "",
    )


def _drifted(records: Sequence[RolloutRecord]) -> Iterator[Row]:
    for rollout_id, hostname, drift in _drifts(records):
        yield (
            hostname,
            rollout_id,
            f"runs {short(drift.running)}",
            f"since {shown_time(drift.since)}",
        )


def _drifts(records: Sequence[RolloutRecord]) -> Iterator[tuple[str, str, Drift]]:
    for record in records:
        for hostname, drift in record.drifted.items():
            yield record.rollout_id, hostname, drift


def _pauses(state: State) -> Iterator[Row]:
    for pause in _sorted_pauses(state):
        yield str(pause.scope), _holder(pause), pause.reason


def _timed(state: State, at: datetime) -> Iterator[Row]:
    for hold in _sorted_timed(state, at):
        until = "no end in sight" if hold.until is None else f"until {shown_time(hold.until)}"
        yield str(hold.scope), str(hold.source.kind), hold.source.name, until, hold.reason


def _sorted_timed(state: State, at: datetime) -> Sequence[Hold]:
    """The holds that end by themselves, and those of calendars whose end is not in sight.

    Those of signed times follow from the manifests, and are in no log.
    """
    for rollout_id in state.timed:
        state.hold_waves(rollout_id, at)
    timed = (
        it
        for it in state.view.holds
        if (it.source.kind.is_by_calendar if it.until is None else it.until > at)
    )
    return sorted(timed, key=lambda hold: (str(hold.scope), hold.source.order))


def _sorted_pauses(state: State) -> Sequence[Hold]:
    """The holds without an end that an operator has to lift."""
    kinds = HoldKind.OPERATOR, HoldKind.CONTRADICTION
    pauses = (it for it in state.view.holds if it.until is None and it.source.kind in kinds)
    return sorted(pauses, key=lambda hold: (str(hold.scope), hold.source.order))


def _holder(hold: Hold) -> str:
    # As it was called before holds had sources.
    return hold.source.name or "(the control plane)"


def _refused(state: State) -> Iterator[Row]:
    """Facts that did not apply; the host keeps each, marked with the same reason."""
    for (rollout_id, hostname, seq), refusal in sorted(state.refused.items()):
        yield hostname, rollout_id, f"seq {seq}", refusal.reason


def _in_force(state: State, at: datetime) -> Iterator[Row]:
    """What each channel points at, and for how long hosts accept it, unless they have a shorter limit."""
    for each in in_force(state):
        seconds = _seconds_until_stale(each, at)
        span = shown_span(timedelta(seconds=abs(seconds)))
        until = f"stale in {span}" if seconds > 0 else f"STALE for {span}: sign again"
        yield each.channel, each.rollout_id, f"signed {shown_time(each.signed_at)}", until


def _seconds_until_stale(each: InForce, at: datetime) -> int:
    window_seconds = freshness_window(each.window_minutes, None) * 60
    return round(window_seconds - (at - each.signed_at - CLOCK_SKEW).total_seconds())


def _refused_artefact(logged: LoggedEntry) -> Row:
    assert isinstance(logged.entry, ArtefactRefused)
    return logged.entry.name, f"since {shown_time(logged.at)}", logged.entry.reason


def _refused_artefact_value(logged: LoggedEntry) -> object:
    assert isinstance(logged.entry, ArtefactRefused)
    return {"name": logged.entry.name, "reason": logged.entry.reason, "since": logged.at}


def _leader_value(lease: LeaseSeen) -> object:
    return None if lease.is_free else {"url": lease.url, "epoch": lease.epoch}


def _value(moment: _Moment, at: datetime) -> object:
    state, lease = moment.state, moment.lease
    shared = {} if lease is None else {"leader": _leader_value(lease)}
    return {
        **moment.versions.value,
        **shared,
        "logBeginsAt": moment.log_begins_at,
        "log": {
            "rows": moment.log_rows,
            "oldestAt": moment.oldest_at,
            "firstNeededRow": None if moment.need is None else moment.need.seq,
            "neededBy": None if moment.need is None else moment.need.by,
        },
        "rollouts": [_rollout_value(state, each) for each in moment.rollouts],
        "waiting": [
            {
                "hostname": each.hostname,
                "rolloutId": each.rollout_id,
                "gate": each.gate,
                "reason": each.reason,
                "since": each.since,
            }
            for each in moment.waiting
        ],
        "drifted": [
            {
                "hostname": hostname,
                "rolloutId": rollout_id,
                "running": drift.running,
                "since": drift.since,
            }
            for rollout_id, hostname, drift in _drifts(moment.rollouts)
        ],
        "overdue": [
            {
                "hostname": each.hostname,
                "rolloutId": each.rollout_id,
                "stage": each.stage,
                "since": each.since,
                "overdueAt": each.overdue_at,
            }
            for each in overdue_hosts(state.view, at)
        ],
        "quarantined": [
            {
                "channel": each.channel,
                "closure": each.closure,
                "since": each.since,
                "logRow": each.triggering_event_log_seq,
                "isRetired": each.cleared,
            }
            for each in moment.quarantined
        ],
        "paused": [
            {"scope": str(pause.scope), "operator": _holder(pause), "reason": pause.reason}
            for pause in _sorted_pauses(state)
        ],
        "heldUntil": [
            {
                "scope": str(hold.scope),
                "kind": hold.source.kind,
                "name": hold.source.name or None,
                "reason": hold.reason,
                "until": hold.until,
            }
            for hold in _sorted_timed(state, at)
        ],
        "refusedEvents": [
            {"hostname": hostname, "rolloutId": rollout_id, "seq": seq, "reason": refusal.reason}
            for (rollout_id, hostname, seq), refusal in sorted(state.refused.items())
        ],
        "inForce": [
            {
                "channel": each.channel,
                "rolloutId": each.rollout_id,
                "signedAt": each.signed_at,
                "secondsUntilStale": _seconds_until_stale(each, at),
            }
            for each in in_force(state)
        ],
        "refusedReleases": list(map(_refused_artefact_value, moment.refused_artefacts)),
    }


def _rollout_value(state: State, record: RolloutRecord) -> object:
    is_pruned = _is_pruned(state, record)
    last_wave = None if is_pruned else state.view.terms(record.rollout_id).last_wave
    waves = () if is_pruned else wave_statuses(state.view, record.rollout_id)
    budgets = () if is_pruned else budget_statuses(state.view, record.rollout_id)
    return {
        "rolloutId": record.rollout_id,
        "channel": record.channel,
        "state": record.state,
        "currentWave": record.current_wave,
        "lastWave": last_wave,
        "excusedHosts": sorted(record.excused_hosts),
        "hostsByState": None if is_pruned else _hosts_by_state(state, record),
        "standings": {str(each): count for each, count in standing_counts(record).items()},
        "waves": [] if is_pruned else [_wave_value(state, record, each) for each in waves],
        "guards": _guards_value(state, record),
        "budgets": [] if is_pruned else list(map(_budget_value, budgets)),
    }


def _budget_value(status: BudgetStatus) -> object:
    return {
        "budget": status.budget,
        "inFlight": status.in_flight,
        "limit": status.limit,
        "underWay": status.under_way,
        "slots": status.slots,
        "convergeToGrow": status.converge_to_grow,
        "begun": status.begun,
        "maxPerMinute": status.max_per_minute,
        "returnsAt": status.returns_at,
    }


def _wave_value(state: State, record: RolloutRecord, wave: WaveStatus) -> object:
    return {
        "wave": wave.wave,
        "total": wave.total,
        "converged": wave.converged,
        "failed": wave.failed,
        "allowed": wave.allowed,
        "absent": wave.absent,
        "verdict": wave.verdict,
        "tolerated": tolerated_hosts(state.view, record.rollout_id, wave.wave),
    }
