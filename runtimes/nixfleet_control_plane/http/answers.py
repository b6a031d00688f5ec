"""Builds responses: RFC 9457 problems, JSON, bytes, and 204. Every route returns one of these."""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

import orjson
from starlette.responses import Response

from nixfleet_proto.codec import DecodeError
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.headers import LEADER, RETRY_AFTER
from nixfleet_runtime.http.problem import (
    PROBLEM_CONTENT_TYPE,
    TYPE_PREFIX,
    HttpProblem,
    encode_problem,
)

Headers: TypeAlias = Mapping[str, str]
_FITS_A_HEADER: Final = re.compile(r"https?://[!-~]{1,300}", re.ASCII)


class Refusal(NixfleetError):
    """Raised by a route to respond with a problem."""

    def __init__(self, problem: HttpProblem, headers: Headers | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.headers = headers or {}


def problem_answer(problem: HttpProblem, headers: Headers | None = None) -> Response:
    """Return `problem` as a response."""
    return Response(
        encode_problem(problem), problem.status, headers, media_type=PROBLEM_CONTENT_TYPE
    )


def json_answer(value: JsonValue) -> Response:
    """Return `value` as a JSON response."""
    return Response(orjson.dumps(value), media_type="application/json")


def bytes_answer(body: bytes, media_type: str) -> Response:
    """Return a response with `body` unchanged."""
    return Response(body, media_type=media_type)


def no_content() -> Response:
    """Return 204."""
    return Response(status_code=204)


def refusal(
    name: str,
    title: str,
    status: int,
    detail: str,
    headers: Headers | None = None,
    **more: JsonValue,
) -> Refusal:
    """Return a refusal whose problem type is `name`; `more` are additional members of the problem."""
    return Refusal(HttpProblem(f"{TYPE_PREFIX}{name}", title, status, detail, more), headers)


def malformed(error: DecodeError) -> Refusal:
    """Return 422 with the first problems in the body, each with its path, and the number of the others."""
    problems: list[JsonValue] = [
        {"path": problem.path, "expected": problem.expected, "found": problem.found}
        for problem in error.shown
    ]
    return refusal(
        "malformed-body",
        "The body cannot be read",
        422,
        str(error),
        problems=problems,
        more=error.more,
    )


def unavailable(title: str, detail: str, retry_after_seconds: int) -> Refusal:
    """Return 503: nothing was done and nothing is lost; the client retries after `retry_after_seconds`."""
    headers = {RETRY_AFTER: str(retry_after_seconds)}
    return refusal("unavailable", title, 503, detail, headers)


def standing_by(why: str, leader_url: str) -> Refusal:
    """Return 503: nothing was done, and another control plane may answer. leader_url: empty if it is not known.

    The URL is another process's word, and is left out if it does not fit into a header.
    """
    headers = {RETRY_AFTER: "1"}
    more: dict[str, JsonValue] = {}
    if _FITS_A_HEADER.fullmatch(leader_url):
        headers[LEADER] = more["leader"] = leader_url
    return refusal("standby", "Another control plane leads", 503, why, headers, **more)
