"""The nearest thing in the libraries that people use for this. Only here are they imported, and only if they
are installed: `make bench` does that, in an environment of its own.

A host of a peer is a function that is told facts: one library object behind it, with the same states, the same data
and the same guard in front of convergence.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

MakeHost = Callable[[], Callable[[object], None]]

_HOSTS = {
    "transitions": "transitions_host",
    "python-statemachine": "statemachine_host",
    "automat": "automat_host",
    "eventsourcing": "eventsourcing_host",
}


def available_hosts() -> Iterator[tuple[str, MakeHost]]:
    """Yield the peers that are installed, by name."""
    for name, module in _HOSTS.items():
        try:
            make_host: MakeHost = import_module(f"{__name__}.{module}").make_host
        except ModuleNotFoundError:
            continue
        yield name, make_host


Recorder = Callable[[Path, int, int], float]
"""(directory, events, events per save) -> events per second, durable."""


def available_recorder() -> Recorder | None:
    """Return how `eventsourcing` records events in SQLite, if it is installed."""
    try:
        record: Recorder = import_module(f"{__name__}.eventsourcing_recorder").record
    except ModuleNotFoundError:
        return None
    return record
