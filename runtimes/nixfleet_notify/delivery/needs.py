"""What only a person moves and no row tells: which of it is open, and the messages when it begins and ends. Pure.

A row of severity act tells hooks of what needs a person when that begins. Everything else that an overview lists as
`needsYou` is a state without such a row: it begins when it is first listed, and ends when it is listed no longer.
Source: docs/spec/notifications.md, Needs.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, assert_never

from attrs import evolve, frozen

from nixfleet_notify.messages.message import Notice
from nixfleet_proto.codec import format_time
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.line_types import LineType, Severity
from nixfleet_runtime.http.overview import Need, NeedKind, Overview
from nixfleet_runtime.kernel.visible import visible

TYPE_BEGINS: Final = "need."
ENDED: Final = "need.ended"
OPEN_MAX: Final = 500
"""So many open needs are known; what comes after them in the overview has to wait until some end."""
ENDS_AFTER: Final = timedelta(minutes=5)
"""A need that is absent for less has not ended: a control plane that starts anew hears its hosts only one by one."""
_DIGEST_LENGTH: Final = 12
_TEXT_LENGTH_MAX: Final = 500


@frozen
class OpenNeed:
    """A need that is listed, or was until `absent_since`. id: of its message; never that of another need.

    subject: what tells it from others of its kind. text: as it was listed first. since: as the overview says.
    """

    id: str
    kind: NeedKind
    subject: str
    text: str
    answer: str
    seen_at: datetime
    since: datetime | None = None
    until: datetime | None = None
    rollout_id: str | None = None
    channel: str | None = None
    command: str | None = None
    absent_since: datetime | None = None

    @property
    def type(self) -> str:
        """The type of its message, without the prefix."""
        return need_type(self.kind)

    @property
    def key(self) -> tuple[NeedKind, str]:
        """What it is about."""
        return self.kind, self.subject


@frozen
class ToldNeed:
    """A need that a hook was told of, and not yet of its end."""

    id: str
    kind: NeedKind
    subject: str
    text: str
    rollout_id: str | None = None
    channel: str | None = None

    @property
    def key(self) -> tuple[NeedKind, str]:
        """What it is about."""
        return self.kind, self.subject


def need_type(kind: NeedKind) -> str:
    """Return the type of the message about a need of this kind, without the prefix."""
    return f"{TYPE_BEGINS}{kind}"


def row_that_tells(kind: NeedKind) -> LineType | None:
    """Return the type of the row that tells when a need of this kind begins; `None`: none does, a need is told."""
    match kind:
        case NeedKind.APPROVAL:
            return LineType.WAVE_APPROVAL_NEEDED
        case NeedKind.HALTED:
            return LineType.ROLLOUT_HALTED
        case NeedKind.ARTEFACT:
            return LineType.ARTEFACT_REFUSED
        case (
            NeedKind.ABORTED
            | NeedKind.LOST
            | NeedKind.QUARANTINE
            | NeedKind.HOLD
            | NeedKind.LAPSED
            | NeedKind.OVERDUE
            | NeedKind.UNSTAGED
            | NeedKind.DRIFT
            | NeedKind.FRESHNESS
            | NeedKind.RELEASE_DIRECTORY
            | NeedKind.LEFT_OUT
            | NeedKind.ENROLLMENT
            | NeedKind.REFUSING
        ):
            return None
        case _:
            assert_never(kind)


NEED_TYPES: Final = tuple(need_type(kind) for kind in NeedKind if row_that_tells(kind) is None)


def severity_of(kind: NeedKind) -> Severity:
    """Return how much a need of this kind matters. Anybody may ask to enroll, so that pages nobody by default."""
    return Severity.WARNING if kind is NeedKind.ENROLLMENT else Severity.ACT


def severity_of_type(name: str) -> Severity:
    """Return how much a type of NEED_TYPES, or ENDED, matters."""
    return (
        Severity.NOTICE if name == ENDED else severity_of(NeedKind(name.removeprefix(TYPE_BEGINS)))
    )


def open_needs(
    known: tuple[OpenNeed, ...], overview: Overview, now: datetime, decided_after: timedelta
) -> tuple[OpenNeed, ...]:
    """Return the needs that are open after an overview. known: those from before. now: our time.

    decided_after: what an operator has decided, a hold or an abort, is a need once it is so old.
    """
    listed: dict[tuple[NeedKind, str], Need] = {}
    for need in _told_here(overview, decided_after):
        listed.setdefault((need.kind, _subject(need)), need)
    kept = list[OpenNeed]()
    for each in known:
        if each.key in listed:
            del listed[each.key]
            kept.append(evolve(each, absent_since=None))
        elif each.absent_since is None or each.absent_since > now:  # Our clock was set back.
            kept.append(evolve(each, absent_since=now))
        elif now - each.absent_since < ENDS_AFTER:
            kept.append(each)
    new = [_begun(need, overview) for need in listed.values()]
    return (*kept, *new[: max(0, OPEN_MAX - len(kept))])


def began(need: OpenNeed) -> Notice:
    """Return that a need began."""
    text = f"{need.text} {need.answer}"
    facts: dict[str, JsonValue] = {
        "need": str(need.kind),
        "answer": visible(need.answer),
        **_facts(need.rollout_id, need.channel),
    }
    for name, time in (("since", need.since), ("until", need.until)):
        if time is not None:
            facts[name] = format_time(time)
    if need.command is not None:
        facts["command"] = visible(need.command)
    return Notice(need.id, need.type, severity_of(need.kind), text, need.seen_at, facts)


def ended(told: ToldNeed, now: datetime) -> Notice:
    """Return that a need ended that a hook was told of."""
    facts: dict[str, JsonValue] = {
        "need": str(told.kind),
        "began": told.id,
        **_facts(told.rollout_id, told.channel),
    }
    text = f"This is over: {told.text}"
    return Notice(f"{told.id}-ended", ENDED, Severity.NOTICE, text, now, facts)


def told_need(need: OpenNeed) -> ToldNeed:
    """Return what a hook keeps of a need that it is told of."""
    return ToldNeed(need.id, need.kind, need.subject, need.text, need.rollout_id, need.channel)


def _told_here(overview: Overview, decided_after: timedelta) -> Iterator[Need]:
    for needs in (overview.needs_you, *(each.needs_you for each in overview.rollouts)):
        for need in needs:
            is_decided = need.kind in (NeedKind.HOLD, NeedKind.ABORTED)
            is_young = need.since is not None and overview.now - need.since < decided_after
            if row_that_tells(need.kind) is None and not (is_decided and is_young):
                yield need


def _subject(need: Need) -> str:
    """Return what tells `need` from others of its kind: a text that stays the same while it is open."""
    named = need.subject
    if need.kind is NeedKind.LEFT_OUT:
        named = need.text  # It has no other name.
    if need.kind is NeedKind.HOLD and need.since is not None:
        named = f"{named} since {format_time(need.since)}"  # One that is set anew is another one.
    about = (need.rollout_id, None if need.wave is None else str(need.wave), named)
    whole = "\n".join(part or "" for part in about)
    return sha256(whole.encode("utf-8", "replace")).hexdigest()[:_DIGEST_LENGTH]


def _begun(need: Need, overview: Overview) -> OpenNeed:
    subject = _subject(need)
    # It may begin twice at one row, and twice with one `since`, but not twice at one time.
    seen = f"{overview.head}-{overview.now.timestamp():.6f}"
    return OpenNeed(
        f"need-{need.kind}-{subject}-{seen}",
        need.kind,
        subject,
        need.text[:_TEXT_LENGTH_MAX],
        need.answer[:_TEXT_LENGTH_MAX],
        overview.now,
        need.since,
        need.until,
        need.rollout_id,
        need.channel,
        None if need.command is None else need.command[:_TEXT_LENGTH_MAX],
    )


def _facts(rollout_id: str | None, channel: str | None) -> dict[str, JsonValue]:
    named = (("rolloutId", rollout_id), ("channel", channel))
    return {name: value for name, value in named if value is not None}
