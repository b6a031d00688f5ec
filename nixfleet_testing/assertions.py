"""Refuse to test without assertions: under `python -O` a failed `assert` passes."""

import pytest


def require_assertions(what: str) -> None:
    """Return if assertions are checked. Raises: pytest.UsageError, under `python -O`; it names `what`."""
    if not __debug__:
        raise pytest.UsageError(
            f"{what} cannot run under `python -O` or with PYTHONOPTIMIZE set: assertions are not checked there, so "
            "tests that should fail would pass. Run it without"
        )
