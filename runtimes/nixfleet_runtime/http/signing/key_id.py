"""Key ids, which name the signer of a request: `host:<hostname>` and `operator:<name>`.

Percent signs and characters outside printable ASCII are percent-encoded, because they go into a header.
"""

import re
from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from attrs import frozen

_HOST: Final = "host:"
_OPERATOR: Final = "operator:"
_AS_THEY_ARE: Final = "".join(chr(code) for code in range(0x20, 0x7F)).replace("%", "")
_PLAIN: Final = re.compile(rf"[{re.escape(_AS_THEY_ARE)}]*")
"""A name that needs no encoding, as nearly all."""


@frozen
class HostSubject:
    """A host, by name."""

    hostname: str


@frozen
class OperatorSubject:
    """An operator, by name."""

    name: str


Subject: TypeAlias = HostSubject | OperatorSubject


def host_key_id(hostname: str) -> str:
    """Return the key id of a host."""
    return _HOST + _encoded(hostname)


def operator_key_id(name: str) -> str:
    """Return the key id of an operator."""
    return _OPERATOR + _encoded(name)


def subject_of(key_id: str) -> Subject | None:
    """Return the subject of `key_id`; `None` if it is not a key id in canonical form."""
    if key_id.startswith(_HOST):
        hostname = _decoded(key_id.removeprefix(_HOST))
        return None if hostname is None else HostSubject(hostname)
    if key_id.startswith(_OPERATOR):
        name = _decoded(key_id.removeprefix(_OPERATOR))
        return None if name is None else OperatorSubject(name)
    return None


def _encoded(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else quote(name, safe=_AS_THEY_ARE)


def _decoded(text: str) -> str | None:
    if _PLAIN.fullmatch(text):
        return text
    name = unquote(text)
    return name if _encoded(name) == text else None
