"""Problems: what is sent, and what is made of whatever comes."""

import json

import pytest

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.http.problem import UNTYPED, HttpProblem, decode_problem, encode_problem

GAP = HttpProblem(
    "urn:nixfleet:problem:gap",
    "Events are missing",
    409,
    "expected seq 3",
    FrozenMap({"firstMissingSeq": 3, "more": FrozenMap({"inner": (1, 2)})}),
)


def test_a_problem_is_written_with_its_extensions_beside_its_members() -> None:
    """Extensions are members of the object like the others, as RFC 9457 has it."""
    assert json.loads(encode_problem(GAP)) == {
        "type": "urn:nixfleet:problem:gap",
        "title": "Events are missing",
        "status": 409,
        "detail": "expected seq 3",
        "firstMissingSeq": 3,
        "more": {"inner": [1, 2]},
    }


def test_a_problem_without_detail_is_written_without_it() -> None:
    """What has nothing to say is left out."""
    assert json.loads(encode_problem(HttpProblem(UNTYPED, "Gone", 410))) == {
        "type": "about:blank",
        "title": "Gone",
        "status": 410,
    }


def test_an_extension_that_would_hide_a_member_is_a_mistake_of_ours() -> None:
    """No extension can change what the problem says of itself."""
    with pytest.raises(AssertionError, match="status"):
        encode_problem(HttpProblem(UNTYPED, "Gone", 410, "", {"status": 200}))


def test_a_problem_is_read_back_as_it_was_written() -> None:
    """The other side gets every member and every extension."""
    problem = HttpProblem(GAP.type, GAP.title, 409, GAP.detail, {"firstMissingSeq": 3})

    assert decode_problem(encode_problem(problem), 409) == problem


def test_a_problem_read_from_an_answer_has_the_status_of_the_answer() -> None:
    """The status line counts: the body's is a copy that somebody may have got wrong."""
    assert decode_problem(encode_problem(GAP), 500).status == 500


def test_members_of_the_wrong_type_are_ignored() -> None:
    """A member that is not what the RFC says is as good as absent."""
    problem = decode_problem(b'{"type": 1, "title": null, "detail": ["x"], "status": "no"}', 404)

    assert problem == HttpProblem(UNTYPED, "Not Found", 404)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", ""),
        (b"<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        (b"[1]", "[1]"),
        (b"\xff\xfe", "��"),
        (b'{"type": "a", "type": "b"}', '{"type": "a", "type": "b"}'),
    ],
)
def test_a_body_that_is_no_problem_becomes_the_detail_of_one(body: bytes, detail: str) -> None:
    """A proxy in between may answer in its own way; that is shown, and nothing fails."""
    assert decode_problem(body, 502) == HttpProblem(UNTYPED, "Bad Gateway", 502, detail)


def test_only_the_beginning_of_a_body_that_is_no_problem_is_kept() -> None:
    """Nobody can fill a log with an error page."""
    assert len(decode_problem(b"x" * 10_000, 502).detail) == 200


def test_a_status_without_a_name_is_shown_as_a_number() -> None:
    """Any status can come."""
    assert decode_problem(b"", 299).title == "Status 299"
