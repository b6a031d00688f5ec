"""Frozen records, built fast. The result is equal to the one that attrs would have made.

A frozen class refuses assignments to its fields, in its own `__init__` too, which therefore calls
`object.__setattr__` once per field. A draft is an instance of a subclass that adds only the plain `__setattr__`, so
the interpreter stores into the slots directly; once filled, it is given the frozen class back, before any other code
has seen it. `__delattr__` must be the plain one too, or CPython treats neither as plain.

Only for slotted, frozen classes; of those of attrs only for such as do nothing in `__init__` but store what they are
given, and check it (`checked`). Both is verified when a function is made. What a draft is given is not checked: it must
come from values that were. The functions are generated, as attrs generates `__init__`, so that no field can be
forgotten. Rejected: fields copied in a loop (three times slower), msgspec (a dependency of the core), records that are
not frozen. Measured by benchmarks/step.py, beside the same reducer on attrs alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import attrs

P = ParamSpec("P")
T = TypeVar("T")


def maker(cls: Callable[P, T]) -> Callable[P, T]:
    """Return a function that takes what `cls` takes, and returns the same instance."""
    fields = _stored_fields(cls)
    stores = [f"draft.{field.name} = {_given(field)}" for field in fields]
    defaults = {f"default_{field.name}": field.default for field in fields}
    return cast("Callable[P, T]", _compiled(cls, _parameters(fields), stores, defaults))


def evolver(cls: type[T], *always: str) -> Callable[..., T]:
    """Return a function that does what `attrs.evolve` does: `(record, *values of always, changes)`.

    always: the fields that change every time. changes: the others, by name, if there are any; a name that is none
    raises AttributeError.
    """
    names = [field.name for field in _stored_fields(cls)]
    assert set(always) <= set(names), always
    stores = [f"draft.{name} = {name if name in always else f'record.{name}'}" for name in names]
    changes = ["if changes:", "  for name in changes:", "    setattr(draft, name, changes[name])"]
    evolved = _compiled(
        cls, ", ".join(("record", *always, "changes=None")), [*stores, *changes], {}
    )
    return cast("Callable[..., T]", evolved)


def holder(cls: type[T], *slots: str) -> Callable[..., T]:
    """Return a function that takes the values of `slots`, and returns an instance that holds them and nothing else.

    For an immutable class that is not one of attrs; its `__init__` is not called.
    """
    _require_frozen_slots(cls)
    assert set(slots) <= set(vars(cls)["__slots__"]), slots
    stores = [f"draft.{slot} = {slot}" for slot in slots]
    return cast("Callable[..., T]", _compiled(cls, ", ".join(slots), stores, {}))


def _stored_fields(cls: Any) -> Sequence["attrs.Attribute[Any]"]:
    fields: Sequence[attrs.Attribute[Any]] = attrs.fields(cls)
    _require_frozen_slots(cls)
    assert not hasattr(cls, "__attrs_pre_init__"), f"{cls} does more than to store"
    check = getattr(cls, "__attrs_post_init__", None)
    assert check is None or hasattr(check, "only_checks"), f"{cls} does more than to store"
    for field in fields:
        assert field.init, f"{cls} is not given {field.name}"
        assert field.alias == field.name, f"{cls} is given {field.name} by another name"
        for more in ("converter", "validator"):
            assert getattr(field, more) is None, f"{cls} does more than to store {field.name}"
    return fields


def _require_frozen_slots(cls: Any) -> None:
    assert cls.__setattr__ is not object.__setattr__, f"{cls} is not frozen"
    assert "__slots__" in vars(cls), f"{cls} has no slots"


def _parameters(fields: Sequence["attrs.Attribute[Any]"]) -> str:
    positional = [_parameter(field) for field in fields if not field.kw_only]
    keyword = [_parameter(field) for field in fields if field.kw_only]
    return ", ".join([*positional, "*", *keyword] if keyword else positional)


def _given(field: "attrs.Attribute[Any]") -> str:
    """What is stored: the argument, or what the factory makes if the argument is still the factory itself."""
    name, default = field.name, f"default_{field.name}"
    if not hasattr(field.default, "factory"):
        return name
    assert not getattr(field.default, "takes_self"), f"{name} is made of other fields"  # noqa: B009
    return f"{default}.factory() if {name} is {default} else {name}"


def _parameter(field: "attrs.Attribute[Any]") -> str:
    return field.name if field.default is attrs.NOTHING else f"{field.name}=default_{field.name}"


def _compiled(
    cls: Any, parameters: str, lines: Sequence[str], names: Mapping[str, object]
) -> object:
    body = ("draft = Draft()", *lines, "draft.__class__ = Frozen", "return draft")
    source = f"def built({parameters}):\n" + "".join(f"    {line}\n" for line in body)
    scope: dict[str, object] = {"Draft": _draft_of(cls), "Frozen": cls, **names}
    exec(compile(source, f"<drafting of {cls.__qualname__}>", "exec"), scope)
    return scope["built"]


def _draft_of(cls: Any) -> type:
    plain = {name: getattr(object, name) for name in ("__init__", "__setattr__", "__delattr__")}
    return type(f"{cls.__name__}Draft", (cls,), {"__slots__": (), **plain})
