"""Takes the row of an artefact apart, so that a release which is signed again is not stored again.

What is signed again has another time, and another anchor; its hosts, waves and budgets are what they were. So each
long member of an artefact is a content of its own, stored once under its SHA-256, and the row refers to it. Put
together, the payload is what it was, byte for byte: a row's hash is over that, and covers its contents.
Rejected: one content for an artefact as a whole, for each signature gives another one.
Source: docs/spec/log.md, Stored rows.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from json import JSONDecoder
from typing import Final

import orjson

from nixfleet_proto.errors import NixfleetError

LENGTH_MIN: Final = 256
"""Shorter members stay in the row: a reference and its place in the table take most of that."""
_decoded = JSONDecoder().raw_decode


class ContentDamaged(NixfleetError):
    """A content that a row refers to is not there, or is not what it was. Attributes: `hash`, `problem`."""

    def __init__(self, hash_: str, problem: str) -> None:
        super().__init__(hash_, problem)
        self.hash = hash_
        self.problem = problem

    def __str__(self) -> str:
        return f"its content {self.hash} {self.problem}"


def taken_apart(payload: str) -> tuple[str, Mapping[str, str]]:
    """Return the payload of an `artefact_accepted` row as it is stored, and by its hash each content it refers to.

    A payload that could not be put together again is returned as it is.
    """
    if len(payload) < LENGTH_MIN:
        return payload, {}
    members = orjson.loads(payload)
    body, contents = members["body"], dict[str, str]()
    parts = [*_parts(body, contents)] if isinstance(body, str) else []
    stored = orjson.dumps({**members, "body": parts}).decode()
    if not contents or put_together(stored, contents) != payload:
        return payload, {}
    return stored, contents


def put_together(stored: str, contents: Mapping[str, str]) -> str:
    """Return the payload of which `taken_apart` made `stored`. Raises: ContentDamaged."""
    members = orjson.loads(stored)
    parts = members["body"]
    if isinstance(parts, str):
        return stored
    body = "".join(
        part if isinstance(part, str) else _content(part["content"], contents) for part in parts
    )
    return orjson.dumps({**members, "body": body}).decode()


def _parts(body: str, contents: dict[str, str]) -> Iterator[str | dict[str, str]]:
    """Yield the artefact in order: text, and a reference for each long member, which is put into `contents`."""
    done = 0
    for start, end in _members(body):
        if end - start < LENGTH_MIN:
            continue
        text = body[start:end]
        name = sha256(text.encode()).hexdigest()
        contents[name] = text
        yield body[done:start]
        yield {"content": name}
        done = end
    yield body[done:]


def _members(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the value of each member begins and ends, as far as the text is a JSON object without spaces."""
    position = 0
    with suppress(ValueError, RecursionError):
        while text.startswith(('{"', ',"'), position):
            _, colon = _decoded(text, position + 1)
            start = colon + 1
            _, position = _decoded(text, start)
            yield start, position


def _content(name: str, contents: Mapping[str, str]) -> str:
    text = contents.get(name)
    if text is None:
        raise ContentDamaged(name, "is missing")
    if sha256(text.encode()).hexdigest() != name:
        raise ContentDamaged(name, "was altered")
    return text
