"""Histories as Python: constructor calls and the imports they need, defaults left out."""

from datetime import datetime, timedelta
from enum import Enum
from typing import cast

import attrs
from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId


class Script:
    """Lines of Python, and the names they use."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._imports: set[str] = set()

    def add_machine(self, machine: type[object]) -> None:
        """Let the script make a `machine`."""
        self._lines.append(f"machine = {self._named(machine)}()")

    def add_call(self, method: str, *arguments: object) -> None:
        """Let the script call `method` of the machine."""
        written = ", ".join(map(self.written, arguments))
        self._lines.append(f"machine.{method}({written})")

    def __str__(self) -> str:
        return "\n".join([*sorted(self._imports), *self._lines])

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
        # A class made inside a function has no name that can be imported; who pastes has it at hand.
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
    """A machine that keeps its script, and notes it when it is torn down: Hypothesis shows the shortest one."""

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()
        self.script.add_machine(type(self))

    def teardown(self) -> None:
        note(f"Paste this to see it again:\n\n{self.script}\n")
