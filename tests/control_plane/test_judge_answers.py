"""What the answer of a judge's server means, and when it is asked next: by example, without a server."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from nixfleet_control_plane.engine.guard_verdicts import AskedCheck
from nixfleet_control_plane.judges.answers import (
    SHOWN_LENGTH_MAX,
    http_answer,
    prometheus_answer,
)
from nixfleet_control_plane.judges.judge import Answer
from nixfleet_control_plane.judges.schedule import due_checks, next_due
from nixfleet_control_plane.messages.inputs import CheckQuestion
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import Check
from nixfleet_state_machine.rollout.guard_tally import Outcome

PASS, FAIL, UNCLEAR = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
NOW = datetime(2026, 5, 16, 1, tzinfo=UTC)


def _vector(*values: str) -> bytes:
    samples = [{"metric": {}, "value": [1747357200.1, value]} for value in values]
    data = {"resultType": "vector", "result": samples}
    return json.dumps({"status": "success", "data": data}).encode()


def test_a_sample_that_compares_passes_and_is_the_evidence() -> None:
    """The number is told as it came."""
    answer = prometheus_answer(200, _vector("0.004"), "< 0.01")
    assert answer == Answer(PASS, "0.004 is < 0.01", "0.004")


def test_a_sample_that_does_not_compare_fails() -> None:
    """With what was found and what was asked for."""
    answer = prometheus_answer(200, _vector("0.02"), "< 0.01")
    assert answer == Answer(FAIL, "0.02 is not < 0.01", "0.02")


@pytest.mark.parametrize(
    ("value", "comparison", "outcome"),
    [
        ("0.01", "< 0.01", FAIL),
        ("0.01", "<= 0.01", PASS),
        ("1", "> 0", PASS),
        ("0", ">= 1", FAIL),
        ("1e-3", "== 0.001", PASS),
        ("1", "!= 1", FAIL),
        ("+Inf", "> 5", PASS),
        ("-Inf", "> 5", FAIL),
    ],
)
def test_each_comparison_means_what_it_says(value: str, comparison: str, outcome: Outcome) -> None:
    """Also at the threshold itself, and for infinities."""
    assert prometheus_answer(200, _vector(value), comparison).outcome is outcome


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, b"", "expected status 200, found 503"),
        (400, b'{"error": "parse error"}', "expected status 200, found 400: parse error"),
        (200, b"<html>", "expected an answer of Prometheus, found something else"),
        (200, b'{"status": "error"}', "expected an answer of Prometheus, found something else"),
        (200, _vector(), "expected one sample, found none: no data"),
        (200, _vector("1", "2"), "expected one sample, found 2"),
        (200, _vector("NaN"), "expected a number, found NaN: no data"),
        (200, _vector("much"), "expected a number, found much"),
        (
            200,
            b'{"status": "success", "data": {"resultType": "matrix", "result": []}}',
            "expected a scalar or a vector, found matrix",
        ),
        (
            200,
            b'{"status": "success", "data": {"resultType": "vector", "result": [{"value": 5}]}}',
            "expected a sample of a time and a value, found something else",
        ),
        (200, b"[" * 100_000, "expected an answer of Prometheus, found something else"),
    ],
)
def test_what_is_no_number_is_inconclusive(status: int, body: bytes, reason: str) -> None:
    """No data never passes, and the reason says what came."""
    answer = prometheus_answer(status, body, "< 0.01")
    assert (answer.outcome, answer.reason) == (UNCLEAR, reason)


def test_a_scalar_is_a_sample_too() -> None:
    """As of `scalar(…)`, or of a number."""
    body = b'{"status": "success", "data": {"resultType": "scalar", "result": [1.5, "3"]}}'
    assert prometheus_answer(200, body, "== 3").outcome is PASS


@pytest.mark.parametrize(
    ("body", "field", "comparison", "outcome"),
    [
        (b'{"data": {"rate": 0.004}}', "data.rate", "< 0.01", PASS),
        (b'{"data": {"rate": 0.02}}', "data.rate", "< 0.01", FAIL),
        (b'{"state": "ready"}', "state", '== "ready"', PASS),
        (b'{"state": "broken"}', "state", '== "ready"', FAIL),
        (b'{"ok": true}', "ok", "== true", PASS),
        (b'{"ok": false}', "ok", "== true", FAIL),
        (b'{"all": [{"n": 3}]}', "all.0.n", "> 2", PASS),
        (b'{"ok": "true"}', "ok", "== true", UNCLEAR),
        (b'{"rate": "0.004"}', "rate", "< 0.01", UNCLEAR),
        (b'{"rate": NaN}', "rate", "< 0.01", UNCLEAR),
        (b'{"rate": null}', "rate", "< 0.01", UNCLEAR),
        (b'{"rate": {}}', "rate", "< 0.01", UNCLEAR),
        (b"{}", "rate", "< 0.01", UNCLEAR),
        (b"nonsense", "rate", "< 0.01", UNCLEAR),
        (b'"text"', "0", '== "t"', UNCLEAR),
    ],
)
def test_a_field_of_a_body_is_compared(
    body: bytes, field: str, comparison: str, outcome: Outcome
) -> None:
    """Numbers, texts and truth values, each with its like; anything else says nothing."""
    assert http_answer(200, body, field, comparison).outcome is outcome


def test_what_a_server_says_is_kept_short_and_harmless() -> None:
    """A text of a megabyte with escapes in it becomes one line."""
    body = json.dumps({"state": "\x1b[2J\n" + "x" * 1_000_000}).encode()
    answer = http_answer(200, body, "state", '== "ready"')
    assert len(answer.evidence) == SHOWN_LENGTH_MAX + 1
    assert answer.evidence.isprintable()


def _asked(*, is_answered: bool = False, since: datetime = NOW) -> AskedCheck:
    check = Check("errors", "prometheus", "rate", "< 0.01", passes=1, interval_seconds=60)
    question = CheckQuestion(RolloutId("stable@r1"), 1, check.name, 7, b"")
    return AskedCheck(question, check, since, is_answered)


def test_a_check_that_was_never_answered_is_asked_at_once() -> None:
    """As soon as its wave waits for it."""
    assert due_checks((_asked(),), {}, NOW) == (_asked(),)


def test_a_check_is_asked_again_after_its_interval() -> None:
    """Not before, whatever was answered."""
    asked = _asked()
    last = {asked.question: NOW}
    assert due_checks((asked,), last, NOW + timedelta(seconds=59)) == ()
    assert due_checks((asked,), last, NOW + timedelta(seconds=60)) == (asked,)
    assert next_due((asked,), last) == NOW + timedelta(seconds=60)


def test_after_a_restart_a_check_waits_for_the_rest_of_its_interval() -> None:
    """It runs from the last verdict in the log."""
    asked = _asked(is_answered=True)
    assert due_checks((asked,), {}, NOW + timedelta(seconds=59)) == ()
    assert due_checks((asked,), {}, NOW + timedelta(seconds=60)) == (asked,)


def test_nothing_is_due_while_nothing_is_asked() -> None:
    """No wave waits for a check."""
    assert next_due((), {}) is None
