"""The members of an enum, quick to look up. Nothing else lives here.

Until Python 3.12 the metaclass of enums has a `__getattr__`, and so each `HostState.SOAKING` costs 0.1 µs, as much as
four calls; here it costs a tenth of that. Only for what is asked of every event. Rejected: a constant for each
member (a second list to keep), strings in the patterns (type checkers no longer see which one is missing). Measured
by benchmarks/step.py.
"""

from enum import Enum
from types import ModuleType
from typing import TypeVar, cast

E = TypeVar("E", bound=Enum)


def members(cls: type[E]) -> type[E]:
    """Return the very members of `cls` under their names, for `case _State.SOAKING`.

    To type checkers it is `cls`, so a `match` must name them all as before; it has the members and nothing else of it.
    """
    # A module, as its names are the quickest to read: the interpreter remembers where they are.
    namespace = ModuleType(cls.__qualname__)
    vars(namespace).update(cls.__members__)
    return cast("type[E]", namespace)
