"""`nixfleet operator`: what an operator asks of a control plane over the network.

Lists are fetched page by page and shown as they arrive.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar, assert_never

import click

from nixfleet_cli.commands.operator_log import HEADER, SHAPE, cells, show_log
from nixfleet_cli.commands.seeing.lists import enrollments, quarantines, refused, silent
from nixfleet_cli.commands.seeing.overview import host, overview
from nixfleet_cli.commands.seeing.shards import shards
from nixfleet_cli.commands.steering.approvals import approve, deny, promote
from nixfleet_cli.commands.steering.endings import abort, recall
from nixfleet_cli.commands.steering.forecasts import forecast, plan
from nixfleet_cli.commands.steering.holds import freeze, hold, holds, release
from nixfleet_cli.commands.steering.locks import override
from nixfleet_cli.commands.steering.session import (
    Session,
    asks,
    reason_option,
    rollout_ids,
    suggesting,
    suggesting_scope,
)
from nixfleet_cli.commands.steering.warrants import warrants
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import Row, shown_time
from nixfleet_control_plane.overview.explanation import clock_words, explanation_lines
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.fact_words import short
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.commands import (
    CLEARANCE,
    HOSTS,
    REASON,
    RETIREMENT,
    RETRY,
    ClearanceBody,
    HostsBody,
    ReasonBody,
    RetirementBody,
    RetryBody,
)
from nixfleet_runtime.http.listings import (
    DEFERRAL_PAGE,
    HOST_EXPLAINED,
    HOST_PAGE,
    LOG_PAGE,
    RELEASE_STANDING,
    ROLLOUT_PAGE,
    ListedDeferral,
    ListedHost,
    ListedRollout,
    ReleaseStanding,
)
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
    parse_scope,
)
from nixfleet_state_machine.planner.rollout_status import WaveStatus
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE

if TYPE_CHECKING:  # It needs the libraries of the extra `http`, and --help does not.
    from nixfleet_cli.shared.operator_client import Page

P = TypeVar("P", bound="Page")
T = TypeVar("T")


@group()
def operator() -> None:
    """Inspect and command a fleet over the network.

    Every request is signed with your key. A command is in the log with your name and your reason.

    Begin with `overview`. Where a command asks for a ROLLOUT, a channel stands for its current one; but `abort`,
    `recall` and `override`, which cannot be taken back, want the rollout itself.

    A terminal gets tables; a pipe gets rows without a header, cells between tabs.

    Exit codes: 0 success; 1 refused, and what to do; 2 no answer, or a usage error.
    """


def _parsed_scope(_context: click.Context, argument: click.Parameter, text: str) -> HoldScope:
    try:
        return parse_scope(text)
    except InvalidRolloutId as error:
        raise click.BadParameter(str(error), param=argument) from error


_scope = click.argument("scope", metavar="SCOPE", callback=_parsed_scope)


@operator.command()
@_scope
@reason_option
@asks("one object with command, scope and reason")
def pause(session: Session, scope: HoldScope, reason: str) -> None:
    """Pause dispatches to SCOPE.

    SCOPE is a channel, a rollout (CHANNEL@REF), a wave (wave:N:CHANNEL@REF), a host (host:NAME) or fleet:all. Hosts
    that have begun to switch are not stopped.
    """
    _command_scope(session, "pause", scope, reason, f"{scope} is paused")


@operator.command()
@_scope
@reason_option
@asks("one object with command, scope and reason")
def resume(session: Session, scope: HoldScope, reason: str) -> None:
    """Resume dispatches to SCOPE.

    SCOPE is as for `pause`. A host that contradicted itself goes on as well.
    """
    _command_scope(session, "resume", scope, reason, f"{scope} is resumed")


def _command_scope(session: Session, name: str, scope: HoldScope, reason: str, done: str) -> None:
    body = REASON.encode(ReasonBody(reason))
    value = {"command": name, "scope": str(scope), "reason": reason}
    try:
        session.command(_scope_path(scope, f"/{name}"), body, value, done)
    except Findings as error:
        raise suggesting_scope(error, str(scope), session.rollouts()) from error


@operator.command()
@click.argument("rollout", metavar="ROLLOUT")
@reason_option
@click.option(
    "--excuse",
    metavar="HOST",
    multiple=True,
    help="Excuse this host, and only those named; repeatable.",
)
@asks("one object with command, rolloutId, excusedHosts and reason")
def clear(session: Session, rollout: str, reason: str, excuse: tuple[str, ...]) -> None:
    """Clear a halted ROLLOUT, excusing the hosts that failed.

    Without --excuse, every host is excused that failed and does not try again. With it, all of them must be named. An
    excused host that has not begun when the rollout ends gets nothing from it. If the rollout halted since nobody of a
    wave came, it goes on without that wave, whose hosts are served when they come.
    """
    rollout = session.current_rollout(rollout)
    body = CLEARANCE.encode(ClearanceBody(reason, excuse))
    value = {"command": "clear", "rolloutId": rollout, "excusedHosts": excuse, "reason": reason}
    try:
        session.command(paths.rollout_path(rollout, "/clear"), body, value, f"{rollout} is cleared")
    except Findings as error:
        raise suggesting(error, rollout, rollout_ids(session)) from error


operator.add_command(overview)
operator.add_command(host)
operator.add_command(quarantines)
operator.add_command(refused)
operator.add_command(enrollments)
operator.add_command(silent)
operator.add_command(abort)
operator.add_command(forecast)
operator.add_command(plan)
operator.add_command(show_log)
operator.add_command(shards)
operator.add_command(approve)
operator.add_command(deny)
operator.add_command(promote)
operator.add_command(recall)
operator.add_command(override)
operator.add_command(freeze)
operator.add_command(hold)
operator.add_command(holds)
operator.add_command(release)
operator.add_command(warrants)


_hosts = click.argument("hosts", metavar="HOSTS", nargs=-1, required=True)
_HOSTS_SHAPE = "one object with command, rolloutId, hosts and reason"


@operator.command()
@click.argument("rollout", metavar="ROLLOUT")
@_hosts
@reason_option
@asks(_HOSTS_SHAPE)
def excuse(session: Session, rollout: str, hosts: tuple[str, ...], reason: str) -> None:
    """Go on without HOSTS in ROLLOUT.

    They count for nothing in it any more, whatever becomes of them. The next rollout counts them again.
    """
    body = HOSTS.encode(HostsBody(hosts, reason))
    _command_hosts(session, "excuse", rollout, hosts, reason, body, "excused")


@operator.command()
@click.argument("rollout", metavar="ROLLOUT")
@_hosts
@reason_option
@asks(_HOSTS_SHAPE)
def skip(session: Session, rollout: str, hosts: tuple[str, ...], reason: str) -> None:
    """Do not wait in ROLLOUT for HOSTS, which are silent.

    Each is served once it is heard of again. A host that was heard of in the last three minutes is refused. If no
    other host of its wave converges, the rollout halts: a wave of which every host is off is no evidence.
    """
    body = HOSTS.encode(HostsBody(hosts, reason))
    _command_hosts(session, "skip", rollout, hosts, reason, body, "skipped")


@operator.command()
@click.argument("rollout", metavar="ROLLOUT")
@click.argument("hosts", metavar="[HOSTS]…", nargs=-1)
@reason_option
@asks(_HOSTS_SHAPE)
def retry(session: Session, rollout: str, hosts: tuple[str, ...], reason: str) -> None:
    """Let HOSTS that failed in ROLLOUT try again.

    Without HOSTS, all that failed and may. Nothing quarantined is retried. A halted rollout has to be cleared besides.
    """
    body = RETRY.encode(RetryBody(reason, hosts))
    _command_hosts(session, "retry", rollout, hosts, reason, body, "to try again")


def _command_hosts(
    session: Session,
    name: str,
    rollout: str,
    hosts: tuple[str, ...],
    reason: str,
    body: bytes,
    done: str,
) -> None:
    rollout = session.current_rollout(rollout)
    value = {"command": name, "rolloutId": rollout, "hosts": hosts, "reason": reason}
    said = f"{rollout}: {', '.join(hosts) or 'what failed'} {done}"
    try:
        session.command(paths.rollout_path(rollout, f"/{name}"), body, value, said)
    except Findings as error:
        raise suggesting(error, rollout, rollout_ids(session)) from error


@operator.command()
@click.argument("channel", metavar="CHANNEL")
@click.argument("closure", metavar="CLOSURE")
@reason_option
@asks("one object with command, channel, closure and reason")
def retire(session: Session, channel: str, closure: str, reason: str) -> None:
    """Retire the quarantine of CLOSURE on CHANNEL.

    The channel may receive it again. CLOSURE is its name, or its short name as lists show it; or the name of a host
    that failed with it.
    """
    whole = whole_name(channel, closure, session.rollouts(), session.hosts())
    body = RETIREMENT.encode(RetirementBody(whole, reason))
    path = paths.channel_path(channel, "/quarantines/retire")
    value = {"command": "retire", "channel": channel, "closure": whole, "reason": reason}
    try:
        session.command(path, body, value, f"{channel} may receive {whole} again")
    except Findings as error:
        channels = {each.channel for each in session.rollouts()}
        raise suggesting(error, channel, channels) from error


@operator.command()
@click.argument("host", metavar="HOST")
@asks(
    "one object with hostname, channel, outside, rollouts (of each rolloutId, gates: gate, reason, detail, and status: "
    "rolloutState, state, standing, attempt, attempts, wave, lastWave, since, waitsFor, deadline, soakEndsAt, retryAt, "
    "isOverdue, drift, until), left (rolloutId, since), refusals (rolloutId, reason, since), "
    "waitingEvents (rolloutId, seq, reason), recalls (rolloutId, orderId, operator, reason, expiresAt, step, "
    "awaited), "
    "lastHeardAt, "
    "clockAheadSeconds and clockBehindSeconds"
)
def explain(session: Session, host: str) -> None:
    """Show where HOST stands, what it waits for, and until when.

    For each rollout that serves it: its state, since when, and its wave; every gate that holds it, with the hosts that
    the gate waits for; its soak, deadline, back-off or drift. Otherwise which rollout it left, or why it is in none.
    Then what its agent does not act on, and when it was last heard.

    Exit codes: as for all; 1 also for a host that nothing in force names.
    """
    explained = session.read(paths.host_path(host, "/explain"), HOST_EXPLAINED)
    session.output.show(HOST_EXPLAINED.to_json(explained), explanation_lines(explained))


@operator.command()
@asks(
    "one object a rollout, with rolloutId, channel, state, currentWave, openedAt, excusedHosts, standings (hosts by "
    "standing), beginsAt, waves (of each wave, total, converged, failed, allowed, absent, verdict), budgets (of "
    "each budget, inFlight, limit, underWay, slots, convergeToGrow, begun, maxPerMinute, returnsAt) and guards (wave, "
    "manifestHash, since, and of each guard name, state, text, isWaivable and until)"
)
def rollouts(session: Session) -> None:
    """List every rollout, oldest first."""
    header = (
        "rollout",
        "state",
        "wave",
        "opened",
        "converged",
        "failed",
        "not counted",
        "excused",
        "guards",
    )
    session.list(paths.ROLLOUTS, ROLLOUT_PAGE, lambda page: page.rollouts, _rollout_cells, header)


def _state(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    known = [each.value for each in HostState]
    if text is not None and text not in known:
        problem = unknown("", "state", text, known)
        raise click.BadParameter(str(problem))
    return text


@operator.command()
@click.option("--rollout", metavar="ID", help="Only hosts of this rollout.")
@click.option(
    "--state", metavar="STATE", callback=_state, help="Only hosts in this state, such as Failed."
)
@asks(
    "one object a host and rollout, with hostname, rolloutId, state, targetClosure, lastEventSeq, currentClosure, "
    "refusal, lastHeardAt, clockAheadSeconds, clockBehindSeconds, standing, attempt and driftedTo"
)
def hosts(session: Session, rollout: str | None, state: str | None) -> None:
    """List every host in every rollout, by rollout and name."""
    if rollout is not None:
        _require_rollout(session, "--rollout", rollout)

    def is_wanted(host: ListedHost) -> bool:
        return rollout in (None, host.rollout_id) and state in (None, host.state)

    header = (
        "rollout",
        "host",
        "state",
        "counts",
        "attempt",
        "target",
        "runs",
        "last heard",
        "clock",
        "does not act",
    )
    session.list(
        paths.HOSTS, HOST_PAGE, lambda page: page.hosts, _host_cells, header, is_wanted=is_wanted
    )


@operator.command()
@asks(
    "one object with channels (channel, rolloutId, signedAt, staleAt), refused (name, reason, since), problem and "
    "leftOut"
)
def releases(session: Session) -> None:
    """Show what is in force, and what is refused.

    For each channel: its rollout, when that was signed, and until when hosts accept it. Then what the control plane's
    start could not load from its database.
    """
    standing = session.read(paths.RELEASES, RELEASE_STANDING)
    session.output.show(RELEASE_STANDING.to_json(standing), _standing_lines(standing))


def _standing_lines(standing: ReleaseStanding) -> Iterator[str]:
    at = SystemClock().now()
    for each in standing.channels:
        until = "stale at" if each.stale_at > at else "STALE since"
        yield (
            f"{each.channel}: {each.rollout_id}, signed {shown_time(each.signed_at)}, "
            f"{until} {shown_time(each.stale_at)}"
        )
    if not standing.channels:
        yield "nothing is in force"
    if standing.problem is not None:
        yield f"the release cannot be read: {standing.problem}"
    for what in standing.left_out:
        yield f"left out of the start: {what}"
    for refusal in standing.refused:
        yield f"refused since {shown_time(refusal.since)}: {refusal.name}: {refusal.reason}"


@operator.command()
@asks("one object a host and rollout, with hostname, rolloutId, gate, reason, since and until")
def deferrals(session: Session) -> None:
    """List waiting hosts, with the first gate that holds each."""
    header = ("rollout", "host", "since", "until", "gate", "reason")
    session.list(
        paths.DEFERRALS, DEFERRAL_PAGE, lambda page: page.deferrals, _deferral_cells, header
    )


@operator.command()
@click.argument("rollout", metavar="ROLLOUT")
@click.option(
    "--after", metavar="SEQ", type=click.IntRange(min=0), help="Only rows with a higher number."
)
@asks(SHAPE)
def events(session: Session, rollout: str, after: int | None) -> None:
    """List what happened in ROLLOUT, oldest first."""
    rollout = session.current_rollout(rollout)
    _require_rollout(session, "ROLLOUT", rollout)
    path = paths.rollout_path(rollout, "/events")
    begin = None if after is None else str(after)
    session.list(path, LOG_PAGE, lambda page: page.events, cells, HEADER, after=begin)


def _scope_path(scope: HoldScope, then: str) -> str:
    match scope:
        case RolloutScope():
            return paths.rollout_path(scope.rollout_id, then)
        case ChannelScope():
            return paths.channel_path(scope.channel, then)
        case HostScope():
            return paths.host_path(scope.hostname, then)
        case FleetScope() | WaveScope() | GroupScope():
            raise click.BadParameter("expected a channel, a rollout or a host (host:NAME)")
        case _:
            assert_never(scope)


def _require_rollout(session: Session, where: str, rollout: str) -> None:
    known = rollout_ids(session)
    if rollout not in known:
        raise Findings(str(unknown(where, "rollout", rollout, known)))


def whole_name(
    channel: str, name: str, rollouts: Iterable[ListedRollout], hosts: Iterable[ListedHost]
) -> str:
    """Return the closure of `channel` that `name` abbreviates; `name` itself if it is no abbreviation.

    Raises: Findings, when it abbreviates several.
    """
    on_channel = {each.rollout_id for each in rollouts if each.channel == channel}
    targets = [each for each in hosts if each.rollout_id in on_channel]
    if any(each.target_closure == name for each in targets):
        return name
    found = {each.target_closure for each in targets if short(each.target_closure) == name} or {
        each.target_closure for each in targets if each.hostname == name and each.state.is_failure
    }
    if len(found) > 1:
        several = (f"  {each}" for each in sorted(found))
        raise Findings(f"expected the name of one closure, found {name!r} for", *several)
    return next(iter(found), name)


def _rollout_cells(rollout: ListedRollout) -> Row:
    excused = ", ".join(rollout.excused_hosts)
    wave = "none" if rollout.current_wave == BEFORE_FIRST_WAVE else str(rollout.current_wave)
    opened = shown_time(rollout.opened_at)
    begins = rollout.begins_at
    standings = ", ".join(f"{count} {it}" for it, count in rollout.standings.items())
    return (
        rollout.rollout_id,
        rollout.state,
        wave if begins is None else f"{wave}, not before {shown_time(begins)}",
        opened,
        *_progress(rollout.waves),
        standings,
        excused,
        _guards(rollout),
    )


def _guards(rollout: ListedRollout) -> str:
    """What the next wave waits for besides the one before."""
    if rollout.guards is None:
        return ""
    lacking = rollout.guards.lacking
    return f"wave {rollout.guards.wave}: {'; '.join(lacking)}" if lacking else ""


def _progress(waves: tuple[WaveStatus, ...]) -> tuple[str, str]:
    """How many hosts converged of those that count, and how many failed of those that may."""
    if not waves:
        return "", ""
    converged, total = sum(it.converged for it in waves), sum(it.total for it in waves)
    failed, allowed = sum(it.failed for it in waves), sum(it.allowed for it in waves)
    return f"{converged} of {total}", f"{failed} of {allowed} allowed"


def _host_cells(host: ListedHost) -> Row:
    runs = "" if host.current_closure is None else short(host.current_closure)
    if host.drifted_to is not None:
        runs = f"{short(host.drifted_to)} (drifted)"
    heard = "" if host.last_heard_at is None else shown_time(host.last_heard_at)
    clock = "" if host.last_heard_at is None else clock_words(host)
    return (
        host.rollout_id,
        host.hostname,
        host.state,
        host.standing,
        str(host.attempt),
        short(host.target_closure),
        runs,
        heard,
        clock,
        host.refusal or "",
    )


def _deferral_cells(waiting: ListedDeferral) -> Row:
    since = shown_time(waiting.since)
    until = "" if waiting.until is None else shown_time(waiting.until)
    return waiting.rollout_id, waiting.hostname, since, until, waiting.gate, waiting.reason
