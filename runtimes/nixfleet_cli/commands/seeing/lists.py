"""`nixfleet operator quarantines`, `refused`, `enrollments` and `silent`: the fleet's lists, page by page."""

from datetime import datetime

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.output import Row, shown_time
from nixfleet_runtime.fact_words import short
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.fleet_pages import (
    ENROLLMENT_PAGE,
    QUARANTINE_PAGE,
    REFUSAL_PAGE,
    SILENT_PAGE,
    ListedEnrollment,
    ListedQuarantine,
    ListedRefusal,
    SilentHost,
)


@command()
@asks("one object a quarantine, with channel, closure, waiting, since and row")
def quarantines(session: Session) -> None:
    """List closures that are barred from a channel.

    With since when, how many hosts wait for each, and the row of the log that barred it. `retire` allows one again.
    """
    header = ("channel", "closure", "since", "hosts wait", "row")
    session.list(
        paths.QUARANTINES, QUARANTINE_PAGE, lambda page: page.quarantines, _quarantine, header
    )


@command()
@asks("one object a refusal, with kind, reason, name, hostname, rolloutId, seq and since")
def refused(session: Session) -> None:
    """List what is refused now.

    Artefacts of the release directory, what agents do not act on, and events of hosts that do not apply.
    """
    header = ("kind", "what", "rollout", "since", "reason")
    session.list(paths.REFUSED, REFUSAL_PAGE, lambda page: page.refused, _refusal, header)


@command()
@asks(
    "one object an enrollment, with hostname, standing, fingerprint, since, until, reason, count and lastHeardAt"
)
def enrollments(session: Session) -> None:
    """List hosts by enrollment: enrolled, awaited, revoked, refused.

    Also those that the fleet declares with a key. A refused host is `knocking`: only those with a token that the
    organisation signed are listed, since the control plane started.
    """
    header = ("host", "standing", "since", "until", "last heard", "times", "key", "reason")
    session.list(
        paths.ENROLLMENTS, ENROLLMENT_PAGE, lambda page: page.enrollments, _enrollment, header
    )


@command()
@asks("one object a host, with hostname, since and rollouts")
def silent(session: Session) -> None:
    """List hosts that were not heard of for three minutes.

    With when each was heard last; never, if it was not since the control plane started.
    """
    header = ("host", "last heard", "rollouts")
    session.list(paths.SILENT, SILENT_PAGE, lambda page: page.hosts, _silent, header)


def _quarantine(each: ListedQuarantine) -> Row:
    row = "" if each.row is None else str(each.row)
    return each.channel, short(each.closure), _time(each.since), str(each.waiting), row


def _refusal(each: ListedRefusal) -> Row:
    what = each.name or each.hostname or ""
    event = "" if each.seq is None else f", event {each.seq}"
    return each.kind, f"{what}{event}", each.rollout_id or "", _time(each.since), each.reason


def _enrollment(each: ListedEnrollment) -> Row:
    return (
        each.hostname,
        each.standing,
        _time(each.since),
        _time(each.until),
        _time(each.last_heard_at),
        str(each.count) if each.count else "",
        each.fingerprint or "",
        each.reason or "",
    )


def _silent(each: SilentHost) -> Row:
    return each.hostname, _time(each.since) or "never", ", ".join(each.rollouts)


def _time(at: datetime | None) -> str:
    return "" if at is None else shown_time(at)
