"""The error of a row that cannot be read, with the place in the row. Nothing is read here."""

from collections.abc import Generator
from contextlib import contextmanager

import cattrs

# RecursionError: JSON that is nested too deep to be read. AttributeError: a text where an object belongs.
UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    cattrs.BaseValidationError,
)


class Unreadable(ValueError):
    """What is at `place` is not what a vector has there."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


@contextmanager
def within(place: object) -> Generator[None, None, None]:
    """Add `place` to the path of an Unreadable that is raised inside. Raises: Unreadable."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{place}.{error.place}", error.reason) from error
    except UNREADABLE as error:
        raise Unreadable(f"{place}", reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return what is wrong, in one line."""
    if isinstance(error, cattrs.BaseValidationError):
        return "; ".join(cattrs.transform_error(error))
    # Ours say it in words; another's say little without their name.
    is_ours = type(error) in (ValueError, TypeError, Unreadable)
    return str(error) if is_ours else f"{type(error).__name__}: {error}"
