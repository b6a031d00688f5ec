"""Generates the OpenAPI document from the definitions of the calls. docs/reference/openapi.json is its output.

Everything that calls share is defined here once: security schemes, headers, problems.
"""

from collections.abc import Sequence
from inspect import getdoc
from re import findall
from typing import Any, Final, assert_never, get_args

import orjson

from nixfleet_control_plane.http.calls import Answer, Call, Caller
from nixfleet_control_plane.http.query import Parameter
from nixfleet_proto.agent_event import AgentEvent, ProbeSubResult, ProbeTopologyEntry
from nixfleet_proto.codec.limits import LISTS, limits_of
from nixfleet_proto.codec.schema import REFERENCES, ROLLOUT_ID_PATTERN, Schema, SchemaBook
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.enrollment import BootstrapToken, EnrollRequest, SignedToken
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.steering.approval import REASON_LENGTH_MAX, WAVE_MAX, Approval
from nixfleet_proto.wire import (
    BATCH_LENGTH_MAX,
    PROTOCOL_VERSION,
    AgentEventEnvelope,
    EventBatch,
)
from nixfleet_runtime.http.commands import ClearanceBody, ReasonBody, RetirementBody
from nixfleet_runtime.http.headers import (
    CONTENT_DIGEST,
    PROTOCOL,
    RETRY_AFTER,
    SIGNATURE,
    SIGNATURE_INPUT,
)
from nixfleet_runtime.http.problem import PROBLEM_CONTENT_TYPE
from nixfleet_runtime.http.request_limits import request_limits_of
from nixfleet_runtime.transport import ActingRefusal, Heartbeat

OPENAPI: Final = "3.1.0"
_PROBLEM: Final = "Problem"
_REPORTED: Final = (
    AgentEventEnvelope,
    EventBatch,
    ProbeTopologyEntry,
    ProbeSubResult,
    *get_args(AgentEvent),
)
_REQUESTED: Final = (
    *(Heartbeat, ActingRefusal, ReasonBody, ClearanceBody, RetirementBody),
    *(BootstrapToken, SignedToken, EnrollRequest),
)
_KEYWORDS: Final[dict[type, str]] = {
    str: "maxLength",
    tuple: "maxItems",
    FrozenMap: "maxProperties",
}
_LIMITS: Final[dict[tuple[type, str], Schema]] = {
    **{
        (cls, name): Schema({"maxItems" if name in LISTS else "maxLength": length_max})
        for cls in _REPORTED
        for name, length_max in limits_of(cls)
    },
    **{
        (cls, name): Schema({_KEYWORDS[kind]: length_max})
        for cls in _REQUESTED
        for name, kind, length_max in request_limits_of(cls)
    },
    (EventBatch, "events"): Schema(minItems=1, maxItems=BATCH_LENGTH_MAX),
    (Approval, "wave"): Schema(maximum=WAVE_MAX),
    (Approval, "reason"): Schema(maxLength=REASON_LENGTH_MAX),
}
_ANY: Final = Caller.ANYBODY

_REFUSALS: Final = {
    400: "not an HTTP request, or the body was cut off",
    401: "unsigned, signed with an unknown or revoked key, signed too long ago, or replayed",
    403: "the key or role does not permit this",
    404: "the path names something unknown",
    408: "the request arrived too slowly",
    411: "the body has no Content-Length",
    413: "the body is too large",
    415: "the content type is not JSON, or the body has a content coding",
    422: "the body or the query is malformed; the first problems are listed, each with its path",
    426: "unsupported protocol version",
    429: "too many concurrent requests",
    431: "the headers are too large",
    503: "temporarily unavailable; nothing was done and nothing is lost",
}
_WAITS: Final = (429, 503)
_PATH_NAMES: Final[dict[str, Schema]] = {
    "rollout_id": {"type": "string", "pattern": ROLLOUT_ID_PATTERN},
    "channel": {"type": "string", "minLength": 1},
    "hostname": {"type": "string", "minLength": 1},
}


def openapi_document(calls: Sequence[Call[Any]]) -> bytes:
    """Return the OpenAPI document for `calls`, as indented JSON."""
    book = SchemaBook(FrozenMap(_LIMITS))
    paths: dict[str, dict[str, JsonValue]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, book)
    document: JsonValue = {
        "openapi": OPENAPI,
        "info": {
            "title": "nixfleet control plane",
            "version": str(PROTOCOL_VERSION),
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {path: dict(operations) for path, operations in paths.items()},
        "components": {
            "schemas": {**book.definitions, _PROBLEM: _problem_schema()},
            "securitySchemes": _security_schemes(),
        },
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _operation(call: Call[Any], book: SchemaBook) -> JsonValue:
    operation: dict[str, JsonValue] = {
        "operationId": call.name,
        "summary": _summary(call),
        "tags": [_tag(call.caller)],
        "security": _security(call.caller),
        "parameters": [*_path_parameters(call.path), *map(_query, call.query), *_headers(call)],
        "responses": _responses(call, book),
    }
    if call.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(call.takes, book)}
    return operation


def _summary(call: Call[Any]) -> str:
    first, *_ = (getdoc(call.endpoint) or "").splitlines()
    return first


def _tag(caller: Caller) -> str:
    match caller:
        case Caller.ANYBODY:
            return "open"
        case Caller.ENROLLING_HOST | Caller.HOST:
            return "agents"
        case Caller.READER | Caller.OPERATOR:
            return "operators"
        case _:
            assert_never(caller)


def _security(caller: Caller) -> list[JsonValue]:
    match caller:
        case Caller.ANYBODY:
            return []
        case Caller.ENROLLING_HOST:
            return [{"enrolling-host": []}]
        case Caller.HOST:
            return [{"host": []}]
        case Caller.READER:
            return [{"operator": ["read"]}, {"operator": ["operate"]}]
        case Caller.OPERATOR:
            return [{"operator": ["operate"]}]
        case _:
            assert_never(caller)


def _security_schemes() -> JsonValue:
    how = (
        f"HTTP Message Signatures (RFC 9421) in {SIGNATURE_INPUT} and {SIGNATURE}, with {CONTENT_DIGEST}: "
        "docs/reference/http-api.md"
    )
    return {
        name: {"type": "apiKey", "in": "header", "name": SIGNATURE, "description": f"{who}. {how}"}
        for name, who in (
            ("host", "The key of an enrolled host"),
            ("enrolling-host", "The key that the request enrolls"),
            ("operator", "The key of an operator in the trust file; roles: read, operate"),
        )
    }


def _path_parameters(path: str) -> list[JsonValue]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_NAMES[name]}
        for name in findall(r"{(\w+)}", path)
    ]


def _query(parameter: Parameter) -> JsonValue:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _headers(call: Call[Any]) -> list[JsonValue]:
    if call.caller is _ANY:
        return []
    return [
        {
            "name": PROTOCOL,
            "in": "header",
            "description": "the protocol version; default: 1",
            "schema": {"type": "string", "pattern": rf"^{PROTOCOL_VERSION}(\.[0-9]+)*$"},
        }
    ]


def _responses(call: Call[Any], book: SchemaBook) -> JsonValue:
    own = {answer.status: answer for answer in call.answers}
    answers = {status: Answer(status, _REFUSALS[status]) for status in _refusals(call)} | own
    return {str(status): _response(answers[status], book) for status in sorted(answers)}


def _refusals(call: Call[Any]) -> set[int]:
    every = {400, 408, 431, 503}
    if call.caller is not _ANY:
        every |= {401, 403, 411, 413, 415, 426}
    if call.takes is not None or call.query:
        every.add(422)
    if "{" in call.path:
        every.add(404)
    return every


def _response(answer: Answer, book: SchemaBook) -> JsonValue:
    headers = dict(answer.headers)
    if answer.status in _WAITS:
        headers[RETRY_AFTER] = "the number of seconds to wait before retrying"
    response: dict[str, JsonValue] = {"description": answer.description}
    if headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    if answer.content is not None:
        response["content"] = _content(answer.content, book)
    elif answer.status >= 400:
        response["content"] = {PROBLEM_CONTENT_TYPE: {"schema": {"$ref": REFERENCES + _PROBLEM}}}
    return response


def _content(content: Coder[Any] | str, book: SchemaBook) -> JsonValue:
    if isinstance(content, Coder):
        return {"application/json": {"schema": book.schema_of(content)}}
    # Signed artefacts are returned byte for byte; their own schemas describe them.
    schema: JsonValue = {} if content == "application/json" else {"type": "string"}
    return {content: {"schema": schema}}


def _problem_schema() -> JsonValue:
    text: JsonValue = {"type": "string"}
    return {
        "description": "RFC 9457. Programs act on `type`; texts are for people. Some types have additional members.",
        "type": "object",
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "problems": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"path": text, "expected": text, "found": text},
                    "required": ["path", "expected", "found"],
                },
            },
            "more": {"type": "integer"},
        },
        "required": ["type", "title", "status"],
    }


_DESCRIPTION = (
    "The API of a control plane for agents and operators. The control plane never opens a connection to a host. "
    "Both sides ignore unknown fields. docs/reference/http-api.md describes signing and error handling, with examples."
)
