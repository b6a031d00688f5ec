"""Every error that a caller of a runtime may want to catch has one base."""

import importlib
import pkgutil
from collections.abc import Iterator

import click
import pytest

from nixfleet_proto.errors import NixfleetError

PACKAGES = (
    "nixfleet_agent",
    "nixfleet_cli",
    "nixfleet_control_plane",
    "nixfleet_notify",
    "nixfleet_release",
    "nixfleet_runtime",
    "nixfleet_secrets",
    "nixfleet_forecast",
    "nixfleet_simulation",
)


def errors_of(package: str) -> Iterator[type[Exception]]:
    """Yield the public exception classes that are defined in the modules of `package`."""
    path = importlib.import_module(package).__path__
    names = [info.name for info in pkgutil.walk_packages(path, f"{package}.")]
    for name in names:
        if name.endswith("__main__"):
            continue
        for found in vars(importlib.import_module(name)).values():
            if not isinstance(found, type) or not issubclass(found, Exception):
                continue
            if found.__module__ == name and not found.__name__.startswith("_"):
                yield found


@pytest.mark.parametrize("package", PACKAGES)
def test_public_errors_derive_from_the_common_base(package: str) -> None:
    """`except NixfleetError` catches all that is raised on purpose; click's own errors end commands."""
    others = [
        f"{error.__module__}.{error.__name__}"
        for error in errors_of(package)
        if not issubclass(error, NixfleetError | click.ClickException)
    ]

    assert others == []
