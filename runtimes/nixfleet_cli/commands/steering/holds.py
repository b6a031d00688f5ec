"""`nixfleet operator hold`, `release`, `freeze` and `holds`: what keeps hosts from beginning, and for how long."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from nixfleet_cli.commands.steering.session import Session, asks, reason_option, suggesting_scope
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import Row, shown_time
from nixfleet_proto.codec import format_time
from nixfleet_proto.ids import InvalidRolloutId
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.commands import HOLD, RELEASE, HoldBody, ReleaseBody
from nixfleet_runtime.http.listings import HOLD_LIST, ListedHold
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_state_machine.planner.holds.scope import FleetScope, parse_scope

_LASTS: Final = re.compile(r"(\d{1,6})([mhd])", re.ASCII)
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_UNTIL_EXPECTED: Final = (
    "expected a time with its offset, such as 2027-01-04T06:00+01:00, or a time from now, "
    "such as 90m, 4h or 3d"
)


def _parsed_scope(_context: click.Context, argument: click.Parameter, text: str) -> str:
    try:
        return str(parse_scope(text))
    except InvalidRolloutId as error:
        raise click.BadParameter(str(error), param=argument) from error


def _parsed_until(
    _context: click.Context, argument: click.Parameter, text: str | None
) -> datetime | None:
    if text is None:
        return None
    lasts = _LASTS.fullmatch(text)
    if lasts is not None:
        now = SystemClock().now().replace(microsecond=0)
        return now + int(lasts[1]) * _UNITS[lasts[2]]
    try:
        until = datetime.fromisoformat(text)
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        raise click.BadParameter(f"{_UNTIL_EXPECTED}, found {text!r}", param=argument)
    return until.astimezone(UTC)


_scope_argument = click.argument("scope", metavar="SCOPE", callback=_parsed_scope)


@command()
@_scope_argument
@reason_option
@click.option(
    "--until",
    metavar="TIME",
    callback=_parsed_until,
    help="When it ends by itself: a time with its offset, or from now: 90m, 4h, 3d. Default: when released.",
)
@asks("one object with command, scope, until and reason")
def hold(session: Session, scope: str, reason: str, until: datetime | None) -> None:
    """Hold dispatches to SCOPE, in your name.

    SCOPE is a channel, a rollout (CHANNEL@REF), a wave (wave:N:CHANNEL@REF), a host (host:NAME) or fleet:all. It takes
    the place of your earlier hold of SCOPE; holds of others stay. What is queued is withdrawn. Hosts that have begun to
    switch go on, and roll back if they fail.
    """
    _hold(session, "hold", scope, reason, until)


@command()
@click.argument("channel", metavar="[CHANNEL]", required=False)
@click.option("--all", "is_all", is_flag=True, help="Freeze every channel.")
@click.option(
    "--until",
    metavar="TIME",
    callback=_parsed_until,
    required=True,
    help="When it ends by itself: a time with its offset, or from now: 90m, 4h, 3d.",
)
@reason_option
@asks("one object with command, scope, until and reason")
def freeze(
    session: Session, channel: str | None, is_all: bool, until: datetime, reason: str
) -> None:
    """Let nothing begin in CHANNEL until a time.

    With --all: anywhere. The same as a hold of a channel or of fleet:all with an end; release lifts it earlier. A
    freeze that is known ahead belongs in the calendar of the declaration.
    """
    if (channel is None) is not is_all:
        raise click.UsageError("expected CHANNEL or --all, and not both")
    _hold(session, "freeze", str(FleetScope()) if channel is None else channel, reason, until)


def _hold(session: Session, name: str, scope: str, reason: str, until: datetime | None) -> None:
    end = None if until is None else format_time(until)
    value = {"command": name, "scope": scope, "until": end, "reason": reason}
    done = f"{scope} is held" + ("" if until is None else f" until {shown_time(until)}")
    body = HOLD.encode(HoldBody(scope, reason, until))
    try:
        session.command(paths.HOLDS, body, value, done)
    except Findings as error:
        raise suggesting_scope(error, scope, session.rollouts()) from error


@command()
@_scope_argument
@reason_option
@click.option("--of", "holder", metavar="NAME", help="Whose hold to lift; default: your own.")
@asks("one object with command, scope, holder and reason")
def release(session: Session, scope: str, reason: str, holder: str | None) -> None:
    """Lift a hold of SCOPE.

    Your own, or that of another operator by name. Other holds of SCOPE stay. A window or a freeze of the calendar ends
    with its entry, in the next release.
    """
    value = {"command": "release", "scope": scope, "holder": holder, "reason": reason}
    body = RELEASE.encode(ReleaseBody(scope, reason, holder))
    try:
        session.command(paths.RELEASED_HOLDS, body, value, f"the hold of {scope} is lifted")
    except Findings as error:
        raise suggesting_scope(error, scope, session.rollouts()) from error


@command()
@asks(
    "one object for each hold, with scope, source, reason, since, until, text, answer, holder and isLiftable"
)
def holds(session: Session) -> None:
    """List what keeps hosts from beginning, and until when."""
    found = session.read(paths.HOLDS, HOLD_LIST).holds
    values = map(HOLD_LIST.spelling.converter.unstructure, found)
    session.output.rows(values, map(_cells, found), ("scope", "source", "since", "until", "reason"))


def _cells(hold: ListedHold) -> Row:
    since = "-" if hold.since is None else shown_time(hold.since)
    until = "until it is lifted" if hold.until is None else shown_time(hold.until)
    return hold.scope, hold.source, since, until, hold.reason
