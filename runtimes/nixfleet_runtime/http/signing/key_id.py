"""Key ids: how a signed request says whose key it was signed with. `host:<hostname>` and `operator:<name>`.

What is not printable ASCII, or is a percent sign, is percent-encoded, since a header cannot carry it.
"""

import re
from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from attrs import frozen

_HOST: Final = "host:"
_OPERATOR: Final = "operator:"
_AS_THEY_ARE: Final = "".join(chr(code) for code in range(0x20, 0x7F)).replace("%", "")
_PLAIN: Final = re.compile(rf"[{re.escape(_AS_THEY_ARE)}]*")
"""Nearly every name: it stands for itself."""


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
    """Return whom `key_id` names; `None` if it is no key id of ours, spelt as we spell it."""
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
