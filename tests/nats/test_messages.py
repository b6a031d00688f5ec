"""Requests, answers and values as messages: what comes out is what went in, and what is none is refused by name."""

from datetime import UTC, datetime

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_nats.calls import (
    ANSWERED,
    ASKED,
    Answer,
    Assembly,
    MessageMalformed,
    Request,
    is_enrollment,
    kind_of,
    read_request,
)
from nixfleet_nats.names import Kind
from nixfleet_nats.positions import Desired, Position, decode_desired, encode_desired
from nixfleet_nats.read_models import encode_heartbeat
from nixfleet_proto.wire import Dispatch

AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
DISPATCH = Dispatch("web-01", "stable@r1", "new-closure", AT, AT)
LINES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@given(
    st.sampled_from([("GET", "/v1/agent/dispatch", "wait=0"), ("POST", "/v1/agent/events", "")]),
    st.dictionaries(st.sampled_from(ASKED), LINES),
    st.binary(max_size=50),
)
def test_a_request_arrives_as_it_was(
    target: tuple[str, str, str], headers: dict[str, str], body: bytes
) -> None:
    """Method, path, query, the headers that are signed, and the body byte for byte."""
    request = Request(*target, headers, body)
    assert read_request({**request.message_headers, "Else": "x"}, body) == request


@given(
    st.integers(100, 599),
    st.dictionaries(st.sampled_from(ANSWERED), LINES),
    st.binary(max_size=100),
    st.integers(1, 30),
)
def test_an_answer_arrives_as_it_was_in_any_number_of_parts(
    status: int, headers: dict[str, str], body: bytes, bytes_max: int
) -> None:
    """No part is larger than it may be, and only the last one makes the answer whole."""
    answer = Answer(status, headers, body)
    assembly = Assembly(len(body))
    *parts, last = answer.messages(bytes_max)
    for given_headers, part in parts:
        assert len(part) == bytes_max
        assert assembly.add(given_headers, part) is None
    assert assembly.add(*last) == answer


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (None, b""),
        ({"Nixfleet-Status": "200"}, b""),
        ({"Nixfleet-Status": "2OO", "Nixfleet-Part": "1/1"}, b""),
        ({"Nixfleet-Status": "200", "Nixfleet-Part": "2/2"}, b""),
        ({"Nixfleet-Status": "200", "Nixfleet-Part": "1/0"}, b""),
        ({"Nixfleet-Status": "200", "Nixfleet-Part": "1/1"}, b"too much"),
    ],
)
def test_a_message_that_is_no_part_of_an_answer_is_refused(
    headers: dict[str, str] | None, body: bytes
) -> None:
    """Each with what was expected and found."""
    with pytest.raises(MessageMalformed) as refused:
        Assembly(4).add(headers, body)
    assert refused.value.expected in str(refused.value)


@pytest.mark.parametrize(
    "target", [None, "", "PUT /v1/agent/events", "GET v1", "GET /\n", "GET /ü"]
)
def test_a_message_without_a_target_is_no_request(target: str | None) -> None:
    """Nothing is passed on that the application would have to guess at."""
    headers = None if target is None else {"Nixfleet-Request": target}
    with pytest.raises(MessageMalformed):
        read_request(headers, b"")


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/agent/events", Kind.EVENTS),
        ("POST", "/v1/agent/event-batches", Kind.EVENTS),
        ("POST", "/v1/agent/heartbeat", Kind.HEARTBEAT),
        ("GET", "/v1/agent/dispatch", Kind.DISPATCH),
        ("GET", "/v1/rollouts/stable@r1", Kind.MANIFEST),
        ("GET", "/v1/rollouts/stable@r1/signature", Kind.MANIFEST),
        ("GET", "/v1/rollouts", None),
        ("POST", "/v1/rollouts/stable@r1/pause", None),
        ("GET", "/v1/rollouts/stable@r1/events", None),
        ("GET", "/metrics", None),
        ("POST", "/v1/enroll", None),
    ],
)
def test_calls_of_hosts_alone_go_over_nats(method: str, path: str, kind: Kind | None) -> None:
    """Operators' calls do not, whoever signs them."""
    assert kind_of(method, path) is kind
    assert is_enrollment(method, path) == (path == "/v1/enroll")


@given(st.integers(0, 10**17), st.integers(0, 10**17))
def test_a_dispatch_is_read_as_it_was_shown(epoch: int, seq: int) -> None:
    """With its position."""
    desired = Desired(Position(epoch, seq), DISPATCH)
    assert decode_desired(encode_desired(desired)) == desired
    assert Position.read(str(desired.position)) == desired.position


@given(st.binary(max_size=60))
def test_a_value_that_is_no_dispatch_says_nothing(value: bytes) -> None:
    """A deletion, another version, or anything at all: an agent goes on waiting."""
    assert decode_desired(value) is None


def test_a_value_of_another_form_says_nothing() -> None:
    """A position that is no number, nothing where a dispatch is, a value that is too long, a pile of brackets."""
    whole = encode_desired(Desired(Position(1, 2), DISPATCH))
    for value in (
        whole.replace(b'"epoch":1', b'"epoch":-1'),
        whole.replace(b'"epoch":1', b'"epoch":"x"'),
        whole.replace(b'"dispatch":{', b'"dispatched":{'),
        whole + b" " * 20_000,
        b"[" * 10_000,
        b"[]",
    ):
        assert decode_desired(value) is None


def test_the_epoch_counts_before_the_row() -> None:
    """A control plane that took over is later, wherever its log is."""
    assert Position(2, 1) > Position(1, 900)
    assert Position(1, 901) > Position(1, 900)
    assert evolve(Position(1, 1)) == Position(1, 1)


def test_a_heartbeat_is_short() -> None:
    """It is written for every host, again and again."""
    assert len(encode_heartbeat(AT)) < 96
