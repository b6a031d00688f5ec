"""An immutable, hashable, picklable mapping, for fields of frozen records.

`types.MappingProxyType` was rejected: it can be neither hashed nor pickled, and it is only a view of a
dict that other code may still change.
"""

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Generic, TypeVar, cast, final, overload

from nixfleet_proto.drafting import holder

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


@final
class FrozenMap(Mapping[K, V], Generic[K, V]):
    """A mapping that never changes; `with_item` returns a new one. Iterates in insertion order.

    Equal to any mapping with the same items; hashable if its values are.
    """

    __slots__ = ("_hash", "_items")

    _items: dict[K, V]
    _hash: int  # absent until it is first computed

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        object.__setattr__(self, "_items", dict(items))

    def with_item(self, key: K, value: V) -> "FrozenMap[K, V]":
        """Return a copy in which `key` is `value`."""
        items = self._items.copy()
        items[key] = value
        return _holding(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: V | D | None = None) -> V | D | None:
        return self._items.get(key, default)

    # A dict's own views are read-only and run in C; the ones `Mapping` would give us do not.
    def keys(self) -> KeysView[K]:
        return self._items.keys()

    def values(self) -> ValuesView[V]:
        return self._items.values()

    def items(self) -> ItemsView[K, V]:
        return self._items.items()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenMap):
            return self._items == cast("FrozenMap[K, V]", other)._items
        if isinstance(other, Mapping):
            return self._items == dict(cast("Mapping[K, V]", other))
        return NotImplemented

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(frozenset(self._items.items())))
            return self._hash

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[type["FrozenMap[K, V]"], tuple[dict[K, V]]]:
        return FrozenMap, (dict(self._items),)

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"


# `with_item` is called for every result of a probe; to make the map as `__init__` does would be half of its time.
_holding: Callable[..., FrozenMap[Any, Any]] = holder(FrozenMap, "_items")
