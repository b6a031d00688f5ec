"""What a notifier has to say itself: that its control plane is silent, and what of the log it cannot read. Pure.

Their types begin with `notify.`; each has an id that is the same however often it is found.
Source: docs/spec/notifications.md, Notices.
"""

from datetime import datetime, timedelta
from typing import Final

from nixfleet_notify.delivery.sight import Outage
from nixfleet_notify.messages.message import Notice
from nixfleet_proto.codec import format_time
from nixfleet_runtime.http.line_types import Severity

SILENT: Final = "notify.control-plane-silent"
ANSWERS: Final = "notify.control-plane-answers"
ROWS_GONE: Final = "notify.rows-gone"
LOG_RESTARTED: Final = "notify.log-restarted"
SAMPLE: Final = "notify.sample"
NOTICE_TYPES: Final = (SILENT, ANSWERS, ROWS_GONE, LOG_RESTARTED, SAMPLE)


def silent(outage: Outage, now: datetime) -> Notice:
    """Return that the control plane does not answer."""
    since = format_time(outage.since)
    text = (
        f"the control plane has not answered for {_minutes(now - outage.since)} min, since {since}: "
        f"{outage.problem}"
    )
    facts = {"since": since, "problem": outage.problem[:500]}
    return Notice(f"silent-{since}", SILENT, Severity.ACT, text, now, facts)


def answers_again(since: datetime, ended_at: datetime) -> Notice:
    """Return that the control plane answers again, which was silent since `since`."""
    text = f"the control plane answers again, after {_minutes(ended_at - since)} min"
    facts = {"since": format_time(since), "endedAt": format_time(ended_at)}
    return Notice(f"answers-{format_time(since)}", ANSWERS, Severity.NOTICE, text, ended_at, facts)


def rows_gone(first_seq: int, last_seq: int, now: datetime) -> Notice:
    """Return that the rows `first_seq` to `last_seq` were dropped before they were read."""
    text = (
        f"the log has dropped rows {first_seq} to {last_seq} before this hook was told of them: "
        "they are in the files that `nixfleet log export` wrote on the control plane's machine"
    )
    facts = {"firstSeq": first_seq, "lastSeq": last_seq}
    return Notice(f"gone-{first_seq}-{last_seq}", ROWS_GONE, Severity.ACT, text, now, facts)


def log_restarted(cursor: int, log: int, now: datetime) -> Notice:
    """Return that the control plane has another log than the one of which rows up to `cursor` were told."""
    text = (
        f"the control plane has another log than before, so its database was lost or replaced: what the old log has "
        f"after row {cursor} was not told; the new one is told from its first row on"
    )
    return Notice(f"log-{log}", LOG_RESTARTED, Severity.ACT, text, now, {"log": log})


def sample(now: datetime) -> Notice:
    """Return what shows that a hook works."""
    text = "this is a sample: nothing has happened, and nobody needs to act"
    return Notice(f"sample-{format_time(now)}", SAMPLE, Severity.NOTICE, text, now, {})


def _minutes(time: timedelta) -> int:
    return time // timedelta(minutes=1)
