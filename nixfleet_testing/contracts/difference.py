"""Where two values differ, field by field: a message for people, not two long lines to be compared by eye."""

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import cast

from attrs import AttrsInstance, asdict, has

SHOWN_MAX = 4


def difference(expected: object, found: object) -> str:
    """Return the first few places in which `found` is not `expected`, each as `path: expected …, found …`."""
    places = list(islice(_places(expected, found, ""), SHOWN_MAX + 1))
    more = ["…"] if len(places) > SHOWN_MAX else []
    return "; ".join(places[:SHOWN_MAX] + more) or "no difference"


def _places(expected: object, found: object, path: str) -> Iterator[str]:
    if expected == found:
        return
    wanted, there = _parts(expected), _parts(found)
    if wanted is None or there is None or has(type(expected)) != has(type(found)):
        yield f"{path.lstrip('.')}: expected {expected!r}, found {found!r}".removeprefix(": ")
        return
    for part in wanted:
        if part in there:
            yield from _places(wanted[part], there[part], path + part)
        else:
            yield f"{path}{part}: missing {wanted[part]!r}"
    for part in there:
        if part not in wanted:
            yield f"{path}{part}: not expected {there[part]!r}"


def _parts(value: object) -> dict[str, object] | None:
    """What `value` is made of, by the way there; `None` for what is compared as a whole."""
    if has(type(value)):
        fields = asdict(cast(AttrsInstance, value), recurse=False)
        return {f".{name}": part for name, part in fields.items()}
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value)
        return {f"[{key}]": part for key, part in items.items()}
    if isinstance(value, Set):
        elements = sorted(cast(Set[object], value), key=repr)
        return {f"[{element!r}]": element for element in elements}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        elements = list(cast(Sequence[object], value))
        return {f"[{index}]": part for index, part in enumerate(elements)}
    return None
