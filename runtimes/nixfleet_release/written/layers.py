"""Joins the layers of a declaration into one document: a later layer overrides an earlier one, value by value.

Each layer is a document of its own, in which nothing is overridden. Between layers, tables are merged; any other value
replaces the earlier one, and where both are is kept. An item of a top-level array (budgets, edges) is added, or takes
the place of the earlier item for the same selector or the same two ends.
Source: docs/spec/declarations.md, Layers.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import evolve, frozen

from nixfleet_release.errors import DeclarationError
from nixfleet_release.written.files import Places, Written, read_files
from nixfleet_runtime.documents.problems import (
    DUPLICATE,
    Place,
    Problem,
    at,
    is_below,
    parent_of,
    quoted,
)
from nixfleet_runtime.documents.tables import shown

LAYERS = "layers"
_BESIDE_LAYERS = (LAYERS, "fleet")
_ITEM = re.compile(r"[A-Za-z0-9_-]+\[\d+\]")
_EXPECTED = 'a list of directories, such as ["base", "site-berlin"]'


@frozen
class Origin:
    """Where a value is declared. overridden: where earlier layers declare it, the first one first."""

    path: str
    place: Place
    overridden: tuple[Place, ...] = ()


def origins(written: Written, path: str) -> Iterator[Origin]:
    """Yield the origin of every value at or below `path`, in the order of the document."""
    places = written.places
    for inner in _leaves(written.content, ""):
        if (inner == path or is_below(inner, [path])) and inner in places.values:
            yield Origin(inner, places.values[inner], _overridden(inner, places))


def read_document(path: Path) -> Written:
    """Return the declaration at `path`: a file, a directory of files, or one of these that names layers.

    Raises: DeclarationError, if a file or a layer cannot be read.
    """
    root = read_files(path)
    if LAYERS not in root.content:
        return root
    problems = list(map(root.places.located, _problems_beside(root)))
    layers = list[tuple[str, Written]]()
    for name, directory in _layers(root, path if path.is_dir() else path.parent, problems):
        try:
            layers.append((name, read_files(directory)))
        except DeclarationError as error:
            problems += error.problems
    if problems:
        raise DeclarationError(
            (*problems, *root.problems, *(each for _, it in layers for each in it.problems))
        )
    return _overlaid(root, layers)


def _layers(root: Written, directory: Path, problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    """Yield the layers that `root` names, each with its directory, and note what is wrong with the others."""
    names = root.content[LAYERS]
    if not isinstance(names, list) or not names:
        refused = Problem(LAYERS, "cannot be used", _EXPECTED, shown(names))
        problems.append(root.places.located(refused))
        return
    known = set[Path]()
    for index, name in enumerate(names):
        path = at(LAYERS, index)
        if not isinstance(name, str):
            refused = Problem(path, "cannot be used", "a directory", shown(name))
        elif not (directory / name).is_dir():
            refused = Problem(path, "no such layer", f"a directory in {directory}", quoted(name))
        elif (directory / name).resolve() in known:
            refused = Problem(path, DUPLICATE, "each layer once", quoted(name))
        else:
            known.add((directory / name).resolve())
            yield name, directory / name
            continue
        problems.append(root.places.located(refused))


def _overlaid(root: Written, layers: list[tuple[str, Written]]) -> Written:
    overlay = _Overlay()
    content = {key: value for key, value in root.content.items() if key != LAYERS}
    for layer in (evolve(root, content=content), *(layer for _, layer in layers)):
        overlay.add(layer)
    return Written(
        overlay.content,
        Places(root.places.whole, overlay.keys, overlay.values, overlay.overridden),
        tuple(overlay.problems),
        overlay.is_whole,
        tuple(name for name, _ in layers),
    )


def _problems_beside(root: Written) -> Iterator[Problem]:
    for key in root.content:
        if key not in _BESIDE_LAYERS:
            expected = f"it in one of the layers (beside {LAYERS} there is only [fleet])"
            yield Problem(key, "outside of the layers", expected, quoted(key), is_key=True)


def _overridden(path: str, places: Places) -> tuple[Place, ...]:
    """Return what the value at `path` overrides, by itself or with the table that it is in."""
    while path and path not in places.overridden:
        path = parent_of(path)
    return places.overridden.get(path, ())


class _Overlay:
    """The layers merged so far."""

    def __init__(self) -> None:
        self.content: dict[str, object] = {}
        self.keys: dict[str, Place] = {}
        self.values: dict[str, Place] = {}
        self.overridden: dict[str, tuple[Place, ...]] = {}
        self.problems: list[Problem] = []
        self.is_whole = True

    def add(self, layer: Written) -> None:
        """Merge one layer over those before it."""
        moved = dict[str, str]()
        for key, value in layer.content.items():
            present = self.content.get(key)
            if isinstance(value, list) and isinstance(present, list):
                self._add_items(key, value, present, moved)
            else:
                self._add(self.content, "", key, value)
        for into, places in ((self.keys, layer.places.keys), (self.values, layer.places.values)):
            for path, place in places.items():
                into.setdefault(_moved(path, moved), place)
        self.problems += (
            evolve(problem, path=_moved(problem.path, moved))
            for problem in map(layer.places.located, layer.problems)
        )
        self.is_whole = self.is_whole and layer.is_whole

    def _add(self, into: dict[str, object], path: str, key: str, value: object) -> None:
        place, present = at(path, key), into.get(key)
        if key not in into:
            into[key] = _copied(value)
        elif isinstance(value, Mapping) and isinstance(present, dict) and _is_same(present, value):
            for name, inner in value.items():
                self._add(present, place, name, inner)
        else:
            self._override(place)
            into[key] = _copied(value)

    def _add_items(
        self, key: str, items: list[object], present: list[object], moved: dict[str, str]
    ) -> None:
        known = {_identity(item): index for index, item in enumerate(present)}
        for index, item in enumerate(items):
            found = known.get(_identity(item), len(present))
            moved[at(key, index)] = at(key, found)
            if found < len(present):
                self._override(at(key, found))
                present[found] = item
            else:
                present.append(item)

    def _override(self, path: str) -> None:
        """Forget where `path` and all below it were declared, except as what was overridden."""
        earlier = self.overridden.pop(path, ())
        before = self.values.get(path)
        for places in (self.keys, self.values, self.overridden):
            for inner in [each for each in places if each == path or is_below(each, [path])]:
                del places[inner]
        self.overridden[path] = earlier if before is None else (*earlier, before)


def _is_same(present: Mapping[str, object], value: Mapping[str, object]) -> bool:
    """Return whether two tables are merged: those of two kinds, as of health checks, share no keys that matter."""
    return value.get("kind", present.get("kind")) == present.get("kind")


def _moved(path: str, moved: Mapping[str, str]) -> str:
    """Return the path of something in an item of a top-level array, at the place where that item is now."""
    item = _ITEM.match(path)
    return path if item is None else moved.get(item[0], item[0]) + path[item.end() :]


def _identity(item: object) -> object:
    """Return what an item of a top-level array is about; an item that is about nothing known is about itself."""
    if isinstance(item, Mapping):
        for keys in (("selector",), ("gates", "gated")):
            if all(key in item for key in keys):
                return repr([item[key] for key in keys])
    return object()


def _copied(value: object) -> object:
    """Return `value` with tables of its own, which later layers may change."""
    if isinstance(value, Mapping):
        return {str(key): _copied(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, list) else value


def _leaves(table: Mapping[str, object], path: str) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, at(path, key))
        elif isinstance(value, list) and value and not path:
            yield from (at(key, index) for index in range(len(value)))
        else:
            yield at(path, key)
