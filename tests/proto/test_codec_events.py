"""Events, envelopes, batches and dispatches as bytes."""

from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from attrs import evolve

from nixfleet_proto.agent_event import (
    ActivationCompleted,
    AgentEvent,
    DispatchAck,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeSubResult,
)
from nixfleet_proto.codec import (
    DecodeError,
    DecodeProblem,
    EventBatch,
    batch_payload,
    decode_dispatch,
    decode_envelope,
    decode_event,
    decode_event_batch,
    encode_dispatch,
    encode_envelope,
    encode_event,
    encode_event_batch,
    envelope_payload,
)
from nixfleet_proto.codec.limits import is_within_limits
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope, Dispatch

AT = datetime(2026, 5, 16, 1, tzinfo=UTC)
ACK = DispatchAck("closure-1", AT, seq=1)
SUB = ProbeSubResult("c-1", ProbeStatus.PASS, "own")
ACK_TEXT = (
    b'{"kind":"DispatchAck","currentClosureAtDispatch":"closure-1",'
    b'"receivedAt":"2026-05-16T01:00:00Z","seq":1}'
)


def _problems(data: bytes) -> tuple[DecodeProblem, ...]:
    with pytest.raises(DecodeError) as refusal:
        decode_event(data)
    return refusal.value.problems


def test_encoding_an_event_puts_its_kind_first_and_its_seq_last() -> None:
    """An event is written with its kind first, its fields in camelCase, and its seq last."""
    event = ActivationCompleted("closure-2", exit_code=-1, completed_at=AT, seq=3)

    assert encode_event(event) == (
        b'{"kind":"ActivationCompleted","observedCurrentClosure":"closure-2","exitCode":-1,'
        b'"completedAt":"2026-05-16T01:00:00Z","seq":3}'
    )


def test_encoding_a_probe_result_with_nothing_optional_leaves_the_options_out() -> None:
    """Options that are absent are not written at all, not even as null."""
    result = ProbeResult("nginx", ProbeMode.ENFORCE, ProbeStatus.PASS, AT, seq=4)

    assert encode_event(result) == (
        b'{"kind":"ProbeResult","probeName":"nginx","mode":"enforce","status":"pass",'
        b'"observedAt":"2026-05-16T01:00:00Z","seq":4}'
    )


def test_encoding_a_probe_result_with_every_option_keeps_seq_last() -> None:
    """Options that are present stand before the seq; `effectiveMode` is written though it is the default."""
    control = ProbeSubResult("A.8.1", ProbeStatus.FAIL, "nis2", article="21(b)")
    result = ProbeResult(
        "nginx", ProbeMode.OBSERVE, ProbeStatus.FAIL, AT, "HTTP 503", (control,), seq=4
    )

    assert encode_event(result) == (
        b'{"kind":"ProbeResult","probeName":"nginx","mode":"observe","status":"fail",'
        b'"observedAt":"2026-05-16T01:00:00Z","failureReason":"HTTP 503","subResults":['
        b'{"controlId":"A.8.1","status":"fail","framework":"nis2","article":"21(b)",'
        b'"effectiveMode":"enforce"}],"seq":4}'
    )
    assert decode_event(encode_event(result)) == result


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'"1"', '"1"'),
        (b"true", "true"),
        (b"1.0", "1.0"),
        (b"null", "null"),
        (b"[1]", "a list"),
        (b"{}", "an object"),
    ],
)
def test_decoding_a_seq_that_is_no_integer_is_refused_as_it_is(text: bytes, found: str) -> None:
    """What only looks like an integer is not made into one."""
    assert _problems(ACK_TEXT.replace(b'"seq":1', b'"seq":' + text)) == (
        DecodeProblem("$.seq", "an integer", found),
    )


@pytest.mark.parametrize("seq", [0, 2**53, 2**64 - 1])
def test_decoding_a_seq_of_up_to_64_bits_keeps_it_exact(seq: int) -> None:
    """A seq has 64 bits, all of them exact."""
    event = DispatchAck("closure-1", AT, seq)

    assert decode_event(encode_event(event)) == event


def test_decoding_an_event_with_many_problems_names_them_all() -> None:
    """Every problem of an event is reported at once, each with its path."""
    assert _problems(
        b'{"kind":"ProbeResult","probeName":5,"mode":"warn","status":"pass","observedAt":"today",'
        b'"subResults":[{"controlId":"A","status":"fail","framework":"f"},{"status":"fail"}]}'
    ) == (
        DecodeProblem("$.probeName", "a string", "5"),
        DecodeProblem("$.mode", "one of 'enforce', 'observe', 'disabled'", '"warn"'),
        DecodeProblem("$.observedAt", "an RFC 3339 time", '"today"'),
        DecodeProblem("$.subResults[1].controlId", "a string", "nothing"),
        DecodeProblem("$.subResults[1].framework", "a string", "nothing"),
        DecodeProblem("$.seq", "an integer", "nothing"),
    )


def test_decoding_a_list_where_one_belongs_does_not_take_a_string_apart() -> None:
    """A string is no list of its letters."""
    failed = (
        b'{"kind":"Failed","failedAt":"2026-05-16T01:00:00Z","sustainedDurationSecs":60,'
        b'"failingProbes":"nginx","policyApplied":"halt","seq":1}'
    )

    assert _problems(failed) == (DecodeProblem("$.failingProbes", "a list", '"nginx"'),)


@pytest.mark.parametrize(("kind", "found"), [(b'"Nope"', '"Nope"'), (b"[1]", "a list")])
def test_decoding_an_unknown_kind_names_the_kinds_there_are(kind: bytes, found: str) -> None:
    """An unknown kind is refused with what could have been."""
    (problem,) = _problems(ACK_TEXT.replace(b'"DispatchAck"', kind))

    assert problem.path == "$.kind"
    assert problem.expected.startswith("one of 'DispatchAck', 'ActivationStarted', ")
    assert problem.found == found


def test_decoding_an_event_without_a_kind_is_refused() -> None:
    """An event that does not say what it is is refused as such."""
    (problem,) = _problems(ACK_TEXT.replace(b'"kind"', b'"kin"'))

    assert (problem.path, problem.found) == ("$.kind", "nothing")


def test_decoding_an_event_with_unknown_fields_ignores_them() -> None:
    """What a newer agent adds does not disturb."""
    assert decode_event(ACK_TEXT.replace(b'"seq":1', b'"seq":1,"load":[0.5]')) == ACK


def test_decoding_an_envelope_reads_any_rollout_id() -> None:
    """A rollout id that is none is for the caller to answer, as an unknown rollout."""
    envelope = AgentEventEnvelope("web-01", "not an id", ACK)

    assert decode_envelope(encode_envelope(envelope)) == envelope


@pytest.mark.parametrize(("rest", "signature"), [(b"", None), (b",null", None), (b',"00"', "00")])
def test_decoding_an_envelope_written_as_an_array_reads_it_in_field_order(
    rest: bytes, signature: str | None
) -> None:
    """An array stands for the fields in their order; the signature may be missing."""
    text = b'["web-01","stable@a1b2",' + ACK_TEXT + rest + b"]"

    assert decode_envelope(text) == AgentEventEnvelope("web-01", "stable@a1b2", ACK, signature)


def test_decoding_an_envelope_written_as_too_long_an_array_is_refused() -> None:
    """An array with more items than an envelope has fields is no envelope."""
    with pytest.raises(DecodeError, match=r"\$: expected at most 4 items, found a list"):
        decode_envelope(b'["web-01","stable@a1b2",' + ACK_TEXT + b",null,null]")


def test_the_payload_of_an_envelope_is_canonical_and_without_its_signature() -> None:
    """What a host signs is `{hostname, rolloutId, event}`, names sorted."""
    assert envelope_payload(AgentEventEnvelope("web-01", "stable@a1b2", ACK, "00")) == (
        b'{"event":{"currentClosureAtDispatch":"closure-1","kind":"DispatchAck",'
        b'"receivedAt":"2026-05-16T01:00:00Z","seq":1},"hostname":"web-01",'
        b'"rolloutId":"stable@a1b2"}'
    )


def _batch(hostnames: list[str]) -> EventBatch:
    return EventBatch(
        tuple(
            AgentEventEnvelope(hostname, "stable@a1b2", DispatchAck("c", AT, seq))
            for seq, hostname in enumerate(hostnames, start=1)
        ),
        signature="00",
    )


def test_decoding_an_encoded_batch_gives_its_events_in_order() -> None:
    """A batch of the largest size comes back as it was."""
    batch = _batch(["web-01"] * BATCH_LENGTH_MAX)

    assert decode_event_batch(encode_event_batch(batch)) == batch


@pytest.mark.parametrize("length", [0, BATCH_LENGTH_MAX + 1])
def test_decoding_a_batch_that_is_empty_or_too_long_is_refused(length: int) -> None:
    """A batch has from 1 to 256 events."""
    with pytest.raises(DecodeError, match=f"expected 1 to 256 events, found {length}"):
        decode_event_batch(encode_event_batch(_batch(["web-01"] * length)))


def test_decoding_a_batch_of_several_hosts_names_every_foreign_event() -> None:
    """A batch is of one host; each event of another is named."""
    with pytest.raises(DecodeError) as refusal:
        decode_event_batch(encode_event_batch(_batch(["web-01", "db-01", "web-01", "web-02"])))

    assert [problem.path for problem in refusal.value.problems] == [
        "$.events[1].hostname",
        "$.events[3].hostname",
    ]


def test_a_batch_that_could_not_be_logged_with_its_signature_is_refused() -> None:
    """Events of another rollout, signatures that nobody verified, and numbers that do not rise are named."""
    batch = _batch(["web-01"] * 4)
    first, second, third, fourth = batch.events
    events = (
        first,
        evolve(second, rollout_id="edge@1"),
        evolve(third, signature="00"),
        evolve(fourth, event=DispatchAck("c", AT, seq=3)),
    )
    with pytest.raises(DecodeError) as refusal:
        decode_event_batch(encode_event_batch(evolve(batch, events=events)))

    assert [str(problem) for problem in refusal.value.problems] == [
        '$.events[1].rolloutId: expected "stable@a1b2", as in the first event, found "edge@1"',
        "$.events[2].signature: expected none: the batch has one, found one",
        "$.events[3].event.seq: expected more than 3, found 3",
    ]


def test_a_batch_that_is_too_long_is_refused_before_any_event_is_read() -> None:
    """There is one problem to tell, however much is wrong with the events."""
    with pytest.raises(DecodeError) as refusal:
        decode_event_batch(b'{"events":[' + b",".join([b"{}"] * 300) + b"]}")

    assert [problem.path for problem in refusal.value.problems] == ["$.events"]


@pytest.mark.parametrize(
    ("event", "path", "expected"),
    [
        (DispatchAck("c" * 1025, AT, 1), "event.currentClosureAtDispatch", "1024 characters"),
        (
            ProbeResult("p", ProbeMode.ENFORCE, ProbeStatus.FAIL, AT, "r" * 513, seq=1),
            "event.failureReason",
            "512 characters",
        ),
        (
            ProbeResult("p", ProbeMode.ENFORCE, ProbeStatus.PASS, AT, None, (SUB,) * 1025, seq=1),
            "event.subResults",
            "1024 items",
        ),
        (
            ProbeResult(
                "p",
                ProbeMode.ENFORCE,
                ProbeStatus.PASS,
                AT,
                None,
                (SUB, evolve(SUB, article="a" * 1025)),
                seq=1,
            ),
            "event.subResults[1].article",
            "1024 characters",
        ),
    ],
    ids=["a text", "a reason", "a list", "a text in a list"],
)
def test_a_text_or_list_that_is_too_long_is_refused_by_name(
    event: AgentEvent, path: str, expected: str
) -> None:
    """What a host reports is kept for good: it may not be as long as the host likes."""
    envelope = AgentEventEnvelope("web-01", "stable@a1b2", event)
    with pytest.raises(DecodeError) as refusal:
        decode_envelope(encode_envelope(envelope))
    (problem,) = refusal.value.problems
    assert (problem.path, problem.expected) == (f"$.{path}", f"at most {expected}")


def test_a_name_in_an_envelope_that_is_too_long_is_refused_by_name() -> None:
    """Also what an envelope says beside its event is kept."""
    envelope = AgentEventEnvelope("w" * 256, "stable@a1b2", DispatchAck("old", AT, 1))
    with pytest.raises(DecodeError) as refusal:
        decode_envelope(encode_envelope(envelope))
    (problem,) = refusal.value.problems
    assert (problem.path, problem.expected) == ("$.hostname", "at most 255 characters")


def test_a_record_is_within_the_limits_unless_one_of_its_texts_is_too_long() -> None:
    """An agent asks before it reports."""
    assert is_within_limits(SUB)
    assert not is_within_limits(evolve(SUB, article="a" * 1025))


def test_an_error_shows_twenty_problems_and_how_many_more_there_are() -> None:
    """In a list, no more are looked for than can be shown."""
    sub_results = [{"status": 0}] * 1000
    event = {"kind": "ProbeResult", "probeName": 1, "subResults": sub_results}
    with pytest.raises(DecodeError) as refusal:
        decode_event(orjson.dumps(event))

    found = refusal.value
    assert len(found.shown) == 20
    assert found.more == len(found.problems) - 20
    assert str(found).endswith(f"; and {found.more} more")
    assert {it.path for it in found.problems if "subResults" in it.path} == {
        f"$.subResults[{index}].{name}"
        for index in range(21)
        for name in ("controlId", "status", "framework")
    }


def test_the_payload_of_a_batch_is_the_whole_without_its_signature() -> None:
    """What a host signs of a batch is all of its events, in order."""
    payload = batch_payload(_batch(["web-01", "web-01"]))

    assert payload.startswith(b'{"events":[{"event":{')
    assert b"signature" not in payload


def test_a_dispatch_is_spelt_in_snake_case() -> None:
    """A dispatch keeps the names of its fields, as docs/spec/wire.md, GET /v1/agent/dispatch shows it."""
    dispatch = Dispatch("web-01", "stable@a1b2", "closure-2", AT, AT)
    text = (
        b'{"hostname":"web-01","rollout_id":"stable@a1b2","target_closure":"closure-2",'
        b'"soak_due_at":"2026-05-16T01:00:00Z","enqueued_at":"2026-05-16T01:00:00Z"}'
    )

    assert encode_dispatch(dispatch) == text
    assert decode_dispatch(text) == dispatch


def test_encoding_a_time_with_an_offset_writes_it_in_utc() -> None:
    """Times are written in UTC wherever they were taken."""
    paris = timezone(timedelta(hours=2))
    event: AgentEvent = DispatchAck("closure-1", AT.astimezone(paris), seq=1)

    assert encode_event(event) == ACK_TEXT


def test_a_decode_error_reads_as_what_was_read_and_every_problem() -> None:
    """The text of a decode error says what it is not and lists the problems."""
    with pytest.raises(DecodeError) as refusal:
        decode_event(ACK_TEXT.replace(b'"seq":1', b'"seq":"0"').replace(b'"closure-1"', b"1"))

    assert str(refusal.value) == (
        "not a valid event: $.currentClosureAtDispatch: expected a string, found 1; "
        '$.seq: expected an integer, found "0"'
    )
