"""Writers: one generated function per class, which puts the fields into a dict in the order of the type.

The generated function, for an event:

    def write(_record):
        _written = {"kind": "ProbeResult"}
        _written["probeName"] = _record.probe_name
        _written["mode"] = _record.mode
        _written["observedAt"] = _write_observed_at(_record.observed_at)
        if _record.failure_reason is not _absent_failure_reason: _written["failureReason"] = ...
        ...
        return _written

cattrs generates such functions too, but they write optional fields after all required ones, and here `seq` is last.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import attrs
from cattrs.fns import identity

Writer: TypeAlias = Callable[[Any], Any]


def class_writer(
    cls: type[Any],
    name_of: Callable[[str], str],
    absent: Mapping[str, object],
    hook_of: Callable[[Any], Writer],
    kind: str | None = None,
) -> Writer:
    """Return a function that returns what a `cls` is in JSON.

    name_of: a field's name in JSON. absent: by name of a field, the value that is not written. hook_of: what a form
    is written with. kind: what is written before all fields.
    """
    scope: dict[str, Any] = {f"_absent_{name}": value for name, value in absent.items()}
    lines = ["_written = {}" if kind is None else f"_written = {{'kind': {kind!r}}}"]
    for field in attrs.fields(cls):
        value, hook = f"_record.{field.name}", hook_of(field.type)
        line = f"_written[{name_of(field.name)!r}] = "
        if hook is identity:
            line += value
        else:
            scope[f"_write_{field.name}"] = hook
            line += f"_write_{field.name}({value})"
        if field.name in absent:
            other = "is not" if absent[field.name] is None else "!="
            line = f"if {value} {other} _absent_{field.name}: {line}"
        lines.append(line)
    source = "\n    ".join(["def write(_record):", *lines, "return _written"])
    exec(compile(source, f"<writer of {cls.__qualname__}>", "exec"), scope)
    return cast("Writer", scope["write"])
