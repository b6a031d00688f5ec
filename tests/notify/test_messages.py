"""Messages: which lines, in which words, and nothing in them that a host could harm a reader with."""

import json
from base64 import b64encode
from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.messages.grouping import LINES_KEPT, Group
from nixfleet_notify.messages.message import PAYLOAD_BYTES_MAX, Message, Origin, message_of
from nixfleet_notify.messages.signing import MalformedSecret, secret_of
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.http.line_types import LineType, Severity
from nixfleet_runtime.http.listings import ListedRow
from tests.notify.one_hook import FAILURE, HALT, START, data_of, event_of, line_of

ORIGIN = Origin("https://fleet.example.org", "pager")


def _message(*lines: ListedRow) -> Message:
    group = Group(lines[0], START)
    for line in lines[1:]:
        group.add(line)
    return message_of(group, ORIGIN, lines[-1].seq)


def test_a_message_about_a_row_is_a_cloud_event_with_its_facts() -> None:
    """All attributes of version 1.0, the sentence, and the payload."""
    message = _message(evolve(line_of(17), host="web-17"))

    event = event_of(message)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "17",
        "source": "https://fleet.example.org",
        "type": "org.nixfleet.rollout.halted",
        "time": "2026-05-16T01:00:00Z",
        "subject": "stable@r1/web-17",
        "datacontenttype": "application/json",
    }
    assert data == {
        "text": "stable@r1: rollout web-17 is Failed",
        "severity": "act",
        "count": 1,
        "firstSeq": 17,
        "lastSeq": 17,
        "types": {"rollout.halted": 1},
        "lines": [
            {
                "seq": 17,
                "ts": "2026-05-16T01:00:00Z",
                "kind": "rollout_event",
                "type": "rollout.halted",
                "severity": "act",
                "text": "stable@r1: rollout web-17 is Failed",
                "host": "web-17",
                "rolloutId": "stable@r1",
                "actor": "rollout",
                "payload": {"kind": "HostStateChanged"},
            }
        ],
    }


def test_what_a_host_says_is_made_visible_and_bounded() -> None:
    """Escape sequences, line ends and marks that reorder are shown as such; megabytes are cut or left out."""
    hostile = "\x1b[2J\u202e\n" + "x" * 1_000_000
    line = evolve(
        line_of(1),
        text=hostile,
        actor=hostile,
        host=hostile,
        payload=FrozenMap({"stderr": "y" * PAYLOAD_BYTES_MAX}),
    )

    message = _message(line)

    assert len(message.body) < 16 * 1024
    assert message.body.isascii() or "…" in message.body
    text = str(data_of(message)["text"])
    assert text.isprintable()
    assert r"\x1b[2J\u202e\n".replace(r"\n", r"\x0a") in text
    assert "payload" not in json.dumps(data_of(message))


def test_lines_of_one_row_are_one_message() -> None:
    """A report with two facts has the number of its row."""
    message = _message(line_of(5, FAILURE), line_of(5, LineType.HOST_ROLLBACK_FAILED))
    assert event_of(message)["id"] == "5"
    assert message.type == "org.nixfleet.host.rollback-failed"
    assert data_of(message)["count"] == 2


def test_a_large_group_keeps_few_lines_and_those_that_matter_most() -> None:
    """It takes no more room than twenty lines of each severity, without their payloads."""
    many = [line_of(seq, FAILURE) for seq in range(1, 500)]
    group = Group(many[0], START)
    for line in [*many[1:], line_of(500, HALT)]:
        group.add(line)

    assert group.count == 500
    assert len(group.lines) == LINES_KEPT
    assert group.lines[0].seq == 500
    assert [line.payload for line in group.lines[2:]] == [{}] * (LINES_KEPT - 2)


def test_a_group_is_open_for_so_many_seconds_after_its_first_line() -> None:
    """By the times of the rows; a clock that was set back leaves it open."""
    group = Group(line_of(1), START)
    assert group.takes(line_of(2, ts=START + timedelta(seconds=59)), 60)
    assert group.takes(line_of(2, ts=START - timedelta(hours=1)), 60)
    assert not group.takes(line_of(2, ts=START + timedelta(seconds=60)), 60)
    assert group.takes(line_of(1, ts=START + timedelta(hours=1)), 60)
    assert not group.takes(line_of(2), 0)


def test_ids_of_two_fleets_two_hooks_and_two_logs_differ() -> None:
    """One receiver may have them all."""
    others = (
        ORIGIN,
        evolve(ORIGIN, source="https://other.example.org"),
        evolve(ORIGIN, hook="chat"),
        evolve(ORIGIN, log=2),
    )
    assert len({origin.message_id("17") for origin in others}) == len(others)
    assert evolve(ORIGIN, log=2).name == "https://fleet.example.org#log-2"


@pytest.mark.parametrize(
    ("wants", "line", "is_told"),
    [
        (HookFilter(), line_of(1, HALT), True),
        (HookFilter(), line_of(1, FAILURE), False),
        (HookFilter(Severity.WARNING), line_of(1, FAILURE), True),
        (HookFilter(), evolve(line_of(1), severity="dire"), True),
        (HookFilter(types=("rollout.halted",)), line_of(1, HALT), True),
        (HookFilter(types=("host.forked",)), line_of(1, HALT), False),
        (HookFilter(kinds=("plan_action",)), line_of(1, HALT), False),
        (HookFilter(channels=("stable",)), line_of(1), True),
        (HookFilter(channels=("stab",)), line_of(1), False),
        (HookFilter(channels=("edge",)), line_of(1, rollout_id=None), True),
        (HookFilter(rollouts=("stable@r1",)), line_of(1), True),
        (HookFilter(rollouts=("stable@r2",)), line_of(1), False),
        (HookFilter(channels=("stable",), rollouts=("stable@r2",)), line_of(1), False),
    ],
)
def test_a_line_is_told_if_it_matches_everything_that_is_asked(
    wants: HookFilter, line: ListedRow, is_told: bool
) -> None:
    """What concerns the whole fleet passes every choice of channels; an unknown severity is the highest."""
    assert wants.wants(line) is is_told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        b64encode(b"k" * 32).decode(),
        f"whsec_{b64encode(b'k' * 23).decode()}",
        f"whsec_{b64encode(b'k' * 65).decode()}",
        "whsec_&&&&",
    ],
)
def test_a_secret_of_another_form_is_refused_without_showing_it(text: str) -> None:
    """The prefix, base64, and 24 to 64 bytes."""
    assert secret_of(f" whsec_{b64encode(b'k' * 24).decode()}\n") == b"k" * 24
    with pytest.raises(MalformedSecret) as refused:
        secret_of(text)
    assert not text or text not in str(refused.value)
