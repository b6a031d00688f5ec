"""Problems as RFC 9457 spells them: the body of every answer that is an error. Data and its bytes.

Who reads one has got an error already, perhaps from a proxy that knows nothing of this format: reading makes the
best of what came and never fails.
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
_DETAIL_LENGTH_MAX = 200


@frozen
class HttpProblem:
    """Why a request was not answered as hoped. Callers act on `type`; the texts are for people.

    type: a URI, `TYPE_PREFIX` and a name for ours. extensions: further members, in camelCase.
    """

    type: str
    title: str
    status: int
    detail: str = ""
    extensions: Mapping[str, JsonValue] = FrozenMap()


def encode_problem(problem: HttpProblem) -> bytes:
    """Return the body of an answer with `PROBLEM_CONTENT_TYPE`; members without content are left out."""
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
    """Return the problem that `data`, the body of an answer with `status`, holds.

    The answer's status counts, not the body's. A member of the wrong type is ignored, as the RFC wants it; of a
    body that is no problem at all, the beginning is the detail.
    """
    members = _members_of(data)
    if members is None:
        text = data[:_DETAIL_LENGTH_MAX].decode(errors="replace")
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
    return value if isinstance(value, str) else ""


def _usual_title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"
