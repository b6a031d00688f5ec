"""What a receiver of messages gets: every line of every log in one message, none twice, and none before it is durable.

Lines are counted from the rows as they became durable, and not by what makes lines of them.
Source: docs/spec/notifications.md, Delivery.
"""

from collections.abc import Iterable

import orjson
from attrs import Factory, define, frozen

from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_notify.messages.message import Message
from nixfleet_simulation.judge.promises import Broken, Promise


@frozen
class _Told:
    """Rows that one message is about."""

    first: int
    last: int


@define
class _Log:
    """One log of the control plane: how many lines each row has, and which rows were told."""

    lines: list[int] = Factory(list[int])
    told: list[_Told] = Factory(list[_Told])


class DeliveryJudge:
    """Judges what one hook delivers, which asks for every line from the first row on."""

    def __init__(self) -> None:
        self.checks = 0
        self._logs = [_Log()]
        self._log_of: dict[int, int] = {}
        self._bodies: dict[str, str] = {}

    def kept(self, rows: Iterable[LogRow]) -> None:
        """These rows became durable."""
        log = self._logs[-1]
        log.lines += [1 if row.first_fact_seq is None else row.fact_count or 0 for row in rows]

    def log_lost(self) -> None:
        """The log is lost. The next one begins with row 1."""
        self._logs.append(_Log())

    def page_read(self, log: int) -> None:
        """The notifier read rows of the log that is the `log`th to it."""
        now = len(self._logs) - 1
        if self._log_of.setdefault(log, now) != now:
            self._break(f"rows of log {now} are taken for rows of log {self._log_of[log]}")

    def message_taken(self, message: Message) -> None:
        """The receiver took a message. It keeps ids, and each id is one event for good."""
        self.checks += 1
        known = self._bodies.get(message.id)
        self._bodies[message.id] = message.body
        if known is not None and known != message.body:
            self._break(f"message {message.id} was {known}, and is {message.body}")
        if known is not None or not message.first_seq:
            return
        event = orjson.loads(message.body)
        data, log = event["data"], int(event["source"].partition("#log-")[2] or 1)
        told = _Told(data["firstSeq"], data["lastSeq"])
        found = self._logs[self._log_of[log]]
        if told.last > len(found.lines):
            self._break(
                f"{message.id} is about row {told.last}, and {len(found.lines)} are durable"
            )
        expected = sum(found.lines[told.first - 1 : told.last])
        if data["count"] != expected:
            self._break(
                f"{message.id} is about {data['count']} lines, and the rows have {expected}"
            )
        found.told.append(told)

    def require_all(self) -> None:
        """Check that the present log was told whole, and of each earlier one a beginning."""
        for number, log in enumerate(self._logs):
            at = 0
            for told in sorted(log.told, key=lambda each: each.first):
                self.checks += 1
                if told.first != at + 1:
                    self._break(f"of log {number} after row {at} row {told.first} is told")
                at = told.last
            if log is self._logs[-1] and at != len(log.lines):
                self._break(f"of {len(log.lines)} rows the first {at} are told")

    def _break(self, found: str) -> None:
        raise Broken(Promise.TOLD_ONCE, found)
