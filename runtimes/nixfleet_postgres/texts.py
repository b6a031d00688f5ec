"""Texts as PostgreSQL can store them: it has no NUL in a text, and what hosts and operators say may have one. Pure."""

from typing import Final, TypeVar

T = TypeVar("T")

_NUL: Final = "\0"
_ESCAPE: Final = "\ufdd0"
"""A code point that stands for no character, and never will."""


def storable(value: T) -> T | str:
    """Return a value of a column as it is stored: a text without NUL, from which `restored` makes the same again."""
    if isinstance(value, str) and (_NUL in value or _ESCAPE in value):
        return value.replace(_ESCAPE, f"{_ESCAPE}1").replace(_NUL, f"{_ESCAPE}0")
    return value


def restored(value: T) -> T | str:
    """Return the value of which `storable` made the one that is stored."""
    if isinstance(value, str) and _ESCAPE in value:
        return value.replace(f"{_ESCAPE}0", _NUL).replace(f"{_ESCAPE}1", _ESCAPE)
    return value
