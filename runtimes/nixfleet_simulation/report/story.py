"""Presents a failure as a story, and as a test to paste into the suite. Text only."""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import cast

import attrs

from nixfleet_simulation.judge.promises import PromiseBroken
from nixfleet_simulation.nodes.trace import moment_of
from nixfleet_simulation.run.run import Outcome
from nixfleet_simulation.scenario.scenario import Scenario

LINES_MAX = 120
LINE_LENGTH_MAX = 160


def story(outcome: Outcome) -> Iterator[str]:
    """Yield the events of a run, line by line. `outcome` must be of a run with `keeps_lines`."""
    lines = outcome.trace.story
    left_out = len(lines) - LINES_MAX
    if left_out > 0:
        yield f"… {left_out} lines before this"
    for moment, who, what in lines[-LINES_MAX:]:
        yield f"{moment_of(moment)}  {who:<14} {what}"[:LINE_LENGTH_MAX]


def pasteable_test(scenario: Scenario, broken: PromiseBroken) -> Iterator[str]:
    """Yield the source of a test that runs `scenario`, with the imports it needs."""
    modules: dict[str, set[str]] = {"nixfleet_simulation.run.run": {"run"}}
    source = _source_of(scenario, modules, indent=1)
    for module in sorted(modules):
        yield f"from {module} import {', '.join(sorted(modules[module]))}"
    yield ""
    yield ""
    yield f"def test_seed_{scenario.seed}_keeps_its_promises() -> None:"
    yield f'    """{broken.promise.value[:1].upper()}{broken.promise.value[1:]}."""'
    yield f"    scenario = {source}"
    yield ""
    yield "    assert run(scenario).broken is None"


def _source_of(value: object, modules: dict[str, set[str]], indent: int) -> str:
    if isinstance(value, Enum):
        _note(value, modules)
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return _listed([_source_of(each, modules, indent + 1) for each in value], indent)
    if attrs.has(type(value)):
        _note(value, modules)
        return _called(cast(attrs.AttrsInstance, value), modules, indent)
    return repr(value)


def _note(value: object, modules: dict[str, set[str]]) -> None:
    modules.setdefault(type(value).__module__, set()).add(type(value).__name__)


def _called(value: attrs.AttrsInstance, modules: dict[str, set[str]], indent: int) -> str:
    """Return the source of a call with the arguments that differ from the defaults."""
    fields: Mapping[str, object] = {
        field.name: getattr(value, field.name)
        for field in attrs.fields(type(value))
        if getattr(value, field.name) != field.default
    }
    sources = [f"{name}={_source_of(each, modules, indent + 1)}" for name, each in fields.items()]
    inner = ", ".join(sources)
    if len(inner) <= 90 and "\n" not in inner:
        return f"{type(value).__name__}({inner})"
    pad = "    " * (indent + 1)
    lines = "".join(f"{pad}{source},\n" for source in sources)
    return f"{type(value).__name__}(\n{lines}{'    ' * indent})"


def _listed(sources: list[str], indent: int) -> str:
    inner = ", ".join(sources) + ("," if len(sources) == 1 else "")
    if len(inner) <= 90 and "\n" not in inner:
        return f"({inner})"
    pad = "    " * (indent + 1)
    lines = "".join(f"{pad}{source},\n" for source in sources)
    return f"(\n{lines}{'    ' * indent})"
