"""Key ids: how a signed request says whose key it was signed with. `host:<hostname>` and `operator:<name>`.

What is not printable ASCII, or is a percent sign, is percent-encoded, since a header cannot carry it.
"""

from typing import Final, TypeAlias
from urllib.parse import quote, unquote

from attrs import frozen

_HOST: Final = "host:"
_OPERATOR: Final = "operator:"
_AS_THEY_ARE: Final = "".join(chr(code) for code in range(0x20, 0x7F)).replace("%", "")


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
    return _HOST + quote(hostname, safe=_AS_THEY_ARE)


def operator_key_id(name: str) -> str:
    """Return the key id of an operator."""
    return _OPERATOR + quote(name, safe=_AS_THEY_ARE)


def subject_of(key_id: str) -> Subject | None:
    """Return whom `key_id` names; `None` if it is no key id of ours, spelt as we spell it."""
    if key_id.startswith(_HOST):
        hostname = unquote(key_id.removeprefix(_HOST))
        return HostSubject(hostname) if host_key_id(hostname) == key_id else None
    if key_id.startswith(_OPERATOR):
        name = unquote(key_id.removeprefix(_OPERATOR))
        return OperatorSubject(name) if operator_key_id(name) == key_id else None
    return None
