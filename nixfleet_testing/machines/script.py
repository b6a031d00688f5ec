"""Histories as Python: constructor calls and the imports they need, defaults left out."""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import cast

import attrs
from attrs import frozen
from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.vendor.pretty import RepresentationPrinter

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_testing.machines.shortest import Call, shortest_part


class Script:
    """Calls of a machine as lines of Python, and the names they use."""

    def __init__(self, machine: type[object], calls: Iterable[Call]) -> None:
        self._imports: set[str] = set()
        self._lines = [f"machine = {self._named(machine)}()", *map(self._line, calls)]

    def __str__(self) -> str:
        return "\n".join([*sorted(self._imports), *self._lines])

    def _line(self, call: Call) -> str:
        method, arguments = call
        return f"machine.{method}({', '.join(map(self.written, arguments))})"

    def written(self, value: object) -> str:
        """Return `value` as an expression."""
        match value:
            case Enum():
                return f"{self._named(type(value))}.{value.name}"
            case RolloutId():
                return f"{self._named(RolloutId)}({str(value)!r})"
            case datetime():
                self._named(datetime)
                return f"datetime.fromisoformat({value.isoformat()!r})"
            case timedelta():
                self._named(timedelta)
                return f"timedelta(seconds={value.total_seconds()!r})"
            case tuple():
                each = cast("tuple[object, ...]", value)
                return f"({''.join(f'{self.written(item)}, ' for item in each).rstrip()})"
            case frozenset():
                members = cast("frozenset[object]", value)
                return f"frozenset([{', '.join(sorted(map(self.written, members)))}])"
            case FrozenMap():
                pairs = cast("FrozenMap[object, object]", value).items()
                items = (f"{self.written(k)}: {self.written(v)}" for k, v in pairs)
                return f"{self._named(FrozenMap)}({{{', '.join(items)}}})"
            case _:
                form = type(value)
                return self._record(value, attrs.fields(form)) if attrs.has(form) else repr(value)

    def _record(self, value: object, known: "tuple[attrs.Attribute[object], ...]") -> str:
        fields = [
            f"{field.alias}={self.written(getattr(value, field.name))}"
            for field in known
            if field.init and not _is_default(field, getattr(value, field.name))
        ]
        return f"{self._named(type(value))}({', '.join(fields)})"

    def _named(self, form: type[object]) -> str:
        # A class made inside a function has no name that can be imported; the pasted script must find it in scope.
        if "<locals>" not in form.__qualname__:
            self._imports.add(f"from {form.__module__} import {form.__name__}")
        return form.__name__


def _is_default(field: "attrs.Attribute[object]", value: object) -> bool:
    default: object = field.default
    if default is attrs.NOTHING:
        return False
    # Where a factory makes the default, it is something empty.
    return not value if hasattr(default, "factory") else default == value


class ScriptedMachine(RuleBasedStateMachine):
    """A machine that keeps its calls, and notes them when it is torn down; Hypothesis shows those of its last run."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Call] = []

    def keep_call(self, method: str, *arguments: object) -> None:
        """Record a call of `method` for the history that is printed."""
        self._calls.append((method, arguments))

    def teardown(self) -> None:
        failure = sys.exc_info()[1]
        note(_History(type(self), self._calls, failure if isinstance(failure, Exception) else None))


@frozen
class _History:
    """What a machine went through. It is shortened when it is shown, which that of most runs is not."""

    machine: type[object]
    calls: Sequence[Call]
    failure: Exception | None

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Called by Hypothesis when it prints a note."""
        calls = self.calls
        if self.failure is not None:
            calls = shortest_part(self.machine, calls, self.failure)
        printer.text(f"Paste this to see it again:\n\n{Script(self.machine, calls)}\n")
