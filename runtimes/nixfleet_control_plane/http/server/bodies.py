"""Reads request bodies: JSON, without a content coding, and of bounded size. Decoding is up to the routes.

`connection` enforces the time limit: a timer here would be one per request, although most arrive in one piece.

Source: docs/spec/wire.md, Limits; RFC 9110 for unsupported types and codings.
"""

from collections.abc import Mapping

from starlette.requests import Request

from nixfleet_control_plane.http.answers import Refusal, malformed, refusal
from nixfleet_proto.codec import DecodeError, require_affordable

_CODINGS = {"", "identity"}


def require_readable(fields: Mapping[str, str], bytes_max: int) -> None:
    """Return if the headers announce a body that is read here, of at most `bytes_max` bytes; 0: none at all.

    fields: the request's headers, from `fields_of`.
    Raises: Refusal: 411 without a Content-Length, 415 for what says that it is no JSON, 413 when it is too large.
    """
    # A body in chunks of one byte costs the parser a thousand times as much as the same bytes in one piece.
    if "transfer-encoding" in fields:
        raise refusal(
            "length-required",
            "A Content-Length is required",
            411,
            "expected a body with Content-Length, found one with Transfer-Encoding",
        )
    _require_json(fields)
    _require_size(_declared_size(fields), bytes_max)


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Return the whole body; a request without one has an empty one.

    Raises: Refusal: 413 when it is too large, 400 when it is cut off, 422 when reading it would take too long.
    """
    body = bytearray()
    more_body = True
    while more_body:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise refusal("cut-off", "The body was cut off", 400, "the client disconnected")
        body += message.get("body", b"")
        more_body = message.get("more_body", False)
        _require_size(len(body), bytes_max)
    whole = bytes(body)
    try:
        require_affordable(whole, "body")
    except DecodeError as error:
        raise malformed(error) from error
    return whole


def _require_json(fields: Mapping[str, str]) -> None:
    coding = _field(fields, "content-encoding").lower()
    if coding not in _CODINGS:
        raise _unsupported("a body without a content coding", f"Content-Encoding: {coding}")
    content_type = _field(fields, "content-type")
    media_type = content_type.partition(";")[0].strip().lower()
    # A missing content type means JSON, as every body here is.
    if media_type not in {"", "application/json"}:
        raise _unsupported("Content-Type: application/json", content_type)


def _require_size(size: int, bytes_max: int) -> None:
    if size > bytes_max:
        expected = f"at most {bytes_max} bytes" if bytes_max else "no body"
        raise refusal("too-large", "The body is too large", 413, f"expected {expected}")


def _declared_size(fields: Mapping[str, str]) -> int:
    declared = _field(fields, "content-length")
    return int(declared) if declared.isdecimal() else 0


def _field(fields: Mapping[str, str], name: str) -> str:
    return fields.get(name, "").strip()


def _unsupported(expected: str, found: str) -> Refusal:
    return refusal(
        "unsupported-content",
        "The content is not supported",
        415,
        f"expected {expected}, found {found[:100]!r}",
    )
