"""RFC 9457 problems: the body of every error response. Data, encoding and decoding.

A client that decodes one already has an error response, possibly from a proxy in another format: so decoding never
fails, and keeps whatever it can use.
Source: docs/spec/wire.md, Errors.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson
from attrs import frozen

from nixfleet_proto.codec import DecodeError, parse_json
from nixfleet_proto.codec.json_text import as_dict
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue

PROBLEM_CONTENT_TYPE: Final = "application/problem+json"
UNTYPED: Final = "about:blank"
TYPE_PREFIX: Final = "urn:nixfleet:problem:"

_MEMBERS = frozenset({"type", "title", "status", "detail"})
_BEGINNING_LENGTH_MAX = 200
"""Of a body that is no problem."""
_TEXT_LENGTH_MAX = 4096
"""Of a text in a problem. It is logged, and an agent's journal keeps why an event was refused: its length must not be
the other side's choice."""


@frozen
class HttpProblem:
    """Why a request failed. Callers act on `type`; the texts are for people.

    type: a URI; ours are `TYPE_PREFIX` and a name. extensions: additional members, in camelCase.
    """

    type: str
    title: str
    status: int
    detail: str = ""
    extensions: Mapping[str, JsonValue] = FrozenMap()


def encode_problem(problem: HttpProblem) -> bytes:
    """Return the body of a response with `PROBLEM_CONTENT_TYPE`; an empty detail is omitted."""
    clashes = _MEMBERS & problem.extensions.keys()
    assert not clashes, f"extensions of {problem.type} would hide its {clashes}"
    members: dict[str, JsonValue] = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
    }
    if problem.detail:
        members["detail"] = problem.detail
    return orjson.dumps({**members, **problem.extensions}, default=as_dict)


def decode_problem(data: bytes, status: int) -> HttpProblem:
    """Return the problem in `data`, the body of a response with `status`.

    The response's status takes precedence over the body's. Members of the wrong type are ignored, as the RFC requires.
    If the body is not a problem, its beginning becomes the detail. Texts are cut at 4,096 characters.
    """
    members = _members_of(data)
    if members is None:
        text = data[:_BEGINNING_LENGTH_MAX].decode(errors="replace")
        return HttpProblem(UNTYPED, _usual_title(status), status, text)
    return HttpProblem(
        _text(members, "type") or UNTYPED,
        _text(members, "title") or _usual_title(status),
        status,
        _text(members, "detail"),
        FrozenMap({name: value for name, value in members.items() if name not in _MEMBERS}),
    )


def _members_of(data: bytes) -> Mapping[str, JsonValue] | None:
    try:
        parsed = parse_json(data, "problem")
    except DecodeError:
        return None
    return parsed if isinstance(parsed, Mapping) else None


def _text(members: Mapping[str, JsonValue], name: str) -> str:
    value = members.get(name)
    return value[:_TEXT_LENGTH_MAX] if isinstance(value, str) else ""


def _usual_title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
