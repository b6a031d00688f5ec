"""Messages as they are sent: CloudEvents 1.0 in JSON, of a group of lines or of what the notifier itself says.

What a host or an operator said is made visible and cut here, once for all receivers: many print it as it is.
Source: docs/spec/notifications.md, Messages.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Final

import orjson
from attrs import frozen

from nixfleet_notify.messages.grouping import Group
from nixfleet_proto.codec import format_time
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import ListedRow
from nixfleet_runtime.kernel.visible import visible

TYPE_PREFIX: Final = "org.nixfleet."
CONTENT_TYPE: Final = "application/cloudevents+json"
TEXT_LENGTH_MAX: Final = 500
PAYLOAD_BYTES_MAX: Final = 16 * 1024
_TYPES_SAID: Final = 3
_DIGEST_LENGTH: Final = 12


@frozen
class Message:
    """What is sent, the same bytes at every attempt. id: stable, and never that of another message.

    type: with the prefix. settles: the row up to which the log is told with it; `None`: it is not about rows.
    """

    id: str
    type: str
    body: str
    first_seq: int = 0
    settles: int | None = None


def text_of(message: Message) -> str:
    """Return the sentence of a message: one line, in which every character can be seen."""
    text: str = orjson.loads(message.body)["data"]["text"]
    return text


def time_of(message: Message) -> datetime:
    """Return the time of what a message is about."""
    text: str = orjson.loads(message.body)["time"]
    return datetime.fromisoformat(text)


@frozen
class Origin:
    """Whose messages they are. source: names the control plane. log: 1, and one more after each lost database."""

    source: str
    hook: str
    log: int = 1

    @property
    def name(self) -> str:
        """The `source` of events. Rows of another log have the same numbers, and are other events."""
        return self.source if self.log == 1 else f"{self.source}#log-{self.log}"

    def message_id(self, event_id: str) -> str:
        """Return the `webhook-id` of an event: two fleets and two hooks may have one receiver."""
        digest = sha256(self.name.encode()).hexdigest()[:_DIGEST_LENGTH]
        return f"{digest}.{self.hook}.{event_id}"


def message_of(group: Group, origin: Origin, settles: int) -> Message:
    """Return the message about the lines of `group`. settles: the last row that is told with it."""
    lines = group.lines
    most = lines[0]
    is_one_row = group.first_seq == group.last_seq
    event_id = f"{group.first_seq}" if is_one_row else f"{group.first_seq}-{group.last_seq}"
    data: dict[str, JsonValue] = {
        "text": _headline(group),
        "severity": most.severity,
        "count": group.count,
        "firstSeq": group.first_seq,
        "lastSeq": group.last_seq,
        "types": dict(sorted(group.types.items())),
        "lines": [_line(line, with_payload=group.count == 1) for line in lines],
    }
    return _message(
        origin, event_id, most.type or most.kind, most.ts, data, _subject(most), settles
    )


@frozen
class Notice:
    """What a notifier has to say itself. event_id: stable. type: without the prefix. facts: beside the text."""

    event_id: str
    type: str
    severity: Severity
    text: str
    at: datetime
    facts: Mapping[str, JsonValue]


def notice_message(notice: Notice, origin: Origin, settles: int | None = None) -> Message:
    """Return the message of a notice. settles: as in `Message`."""
    data: dict[str, JsonValue] = {
        "text": _shown(notice.text),
        "severity": str(notice.severity),
        "count": 1,
        **notice.facts,
    }
    return _message(origin, notice.event_id, notice.type, notice.at, data, "notify", settles)


def _message(
    origin: Origin,
    event_id: str,
    event_type: str,
    at: datetime,
    data: dict[str, JsonValue],
    subject: str,
    settles: int | None,
) -> Message:
    event: dict[str, JsonValue] = {
        "specversion": "1.0",
        "id": event_id,
        "source": origin.name,
        "type": f"{TYPE_PREFIX}{event_type}",
        "time": format_time(at),
        "subject": subject,
        "datacontenttype": "application/json",
        "data": data,
    }
    first = data.get("firstSeq")
    return Message(
        origin.message_id(event_id),
        f"{TYPE_PREFIX}{event_type}",
        orjson.dumps(event).decode(),
        first if isinstance(first, int) else 0,
        settles,
    )


def _headline(group: Group) -> str:
    """Return one sentence: what happened, and how much else of which kind."""
    sentence = _sentence(group.lines[0])
    if group.count == 1:
        return sentence
    said = [f"{number} x {kind}" for kind, number in group.types.most_common(_TYPES_SAID)]
    more = len(group.types) - len(said)
    if more > 0:
        said.append(f"{more} more types")
    return f"{sentence} (one of {group.count} lines: {', '.join(said)})"


def _sentence(line: ListedRow) -> str:
    """Return who did what, after the rollout that it is about."""
    about = f"{line.rollout_id}: " if line.rollout_id else ""
    who = f"{line.actor} " if line.actor else ""
    return _shown(f"{about}{who}{line.text or line.kind}")


def _line(line: ListedRow, *, with_payload: bool) -> JsonValue:
    shown: dict[str, JsonValue] = {
        "seq": line.seq,
        "ts": format_time(line.ts),
        "kind": line.kind,
        "type": line.type,
        "severity": line.severity,
        "text": _sentence(line),
    }
    for name, value in (("host", line.host), ("rolloutId", line.rollout_id), ("actor", line.actor)):
        if value is not None:
            shown[name] = _shown(value)
    if with_payload:
        payload: JsonValue = dict(line.payload)
        if len(orjson.dumps(payload)) <= PAYLOAD_BYTES_MAX:
            shown["payload"] = payload
    return shown


def _subject(line: ListedRow) -> str:
    """Return what a line is about: a rollout, a host in it, a host, or the fleet."""
    return _shown("/".join(filter(None, (line.rollout_id, line.host))) or "fleet")


def _shown(text: str) -> str:
    seen = visible(text)
    return seen if len(seen) <= TEXT_LENGTH_MAX else f"{seen[: TEXT_LENGTH_MAX - 1]}…"
