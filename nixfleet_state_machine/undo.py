"""Collections whose changes since a mark can be rolled back.

An engine changes its state while it decides, but a decision is effective only once it is durable. Instead of
copying fleet-wide maps, or reading through layers of them, each change notes its own undoing: after a failed
write or a failed input, changes are rolled back in reverse order; durable ones are settled. Reads are those of
a plain dict. Rejected: an overlay merged after the commit (every read pays for it, and an ordered
index cannot be layered), persistent maps (a dependency, and five times slower).
"""

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar, TypeVarTuple

K = TypeVar("K")
V = TypeVar("V")
Ts = TypeVarTuple("Ts")


_Undoing: TypeAlias = tuple[Callable[..., object], *tuple[object, ...]]


class UndoLog:
    """The changes that can be rolled back. Shared by all collections that must be rolled back together."""

    def __init__(self) -> None:
        # Collections in this file append to it directly: a call per change would cost as much as the change.
        self.undoings: list[_Undoing] = []

    def note(self, undo: Callable[[*Ts], object], *values: *Ts) -> None:
        """Note that `undo(*values)` rolls back a change that was just made."""
        self.undoings.append((undo, *values))

    def mark(self) -> int:
        """Return a place to which `undo_to` can go back, until the next `settle`."""
        return len(self.undoings)

    def undo_to(self, mark: int) -> None:
        """Roll back everything since `mark`, latest first."""
        while len(self.undoings) > mark:
            undo, *values = self.undoings.pop()
            undo(*values)

    def set_aside(self) -> tuple[_Undoing, ...]:
        """Return all changes so far, and count them as settled until they are put back."""
        aside = tuple(self.undoings)
        self.undoings.clear()
        return aside

    def put_back(self, aside: tuple[_Undoing, ...]) -> None:
        """Let what was set aside be rolled back again, after all that was changed since."""
        self.undoings[:0] = aside

    def settle(self) -> None:
        """Commit all changes so far; they can no longer be rolled back."""
        self.undoings.clear()


class NoUndo(UndoLog):
    """An undo log for collections that are never rolled back. Notes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.undoings: list[_Undoing] = _Nothing()


class _Nothing(list[_Undoing]):
    """Stays empty, whatever is appended."""

    def append(self, _: _Undoing, /) -> None:
        pass


class UndoableDict(dict[K, V]):
    """A dict whose changes can be rolled back; it is changed by `set` and `discard` alone. Values must be immutable.

    Reads are the dict's own, in C; all the methods of a dict that would change it refuse.
    """

    __slots__ = ("_undoings",)

    def __init__(self, undo: UndoLog) -> None:
        super().__init__()
        self._undoings = undo.undoings

    def set(self, key: K, value: V) -> None:
        """Set `key` to `value`."""
        if key in self:
            self._undoings.append((_set_item, self, key, self[key]))
        else:
            self._undoings.append((_del_item, self, key))
        _set_item(self, key, value)

    def discard(self, key: K) -> None:
        """Remove `key`, if it is there."""
        if key in self:
            self._undoings.append((_set_item, self, key, self[key]))
            _del_item(self, key)

    # The default sets the items one by one, which is refused. Collections that are copied together share one log.
    def __reduce__(self) -> tuple[object, ...]:
        return _emptied, (type(self),), (self._undoings, dict(self))

    def __setstate__(self, state: tuple[list[_Undoing], dict[K, V]]) -> None:
        self._undoings, items = state
        for key, value in items.items():
            _set_item(self, key, value)

    def _refuse(self: object, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            "changed by `set` and `discard` alone: other changes could not be rolled back"
        )

    __setitem__: Callable[..., NoReturn] = _refuse
    __delitem__: Callable[..., NoReturn] = _refuse
    __ior__: Callable[..., NoReturn] = _refuse
    clear: Callable[..., NoReturn] = _refuse
    pop: Callable[..., NoReturn] = _refuse
    popitem: Callable[..., NoReturn] = _refuse
    setdefault: Callable[..., NoReturn] = _refuse
    update: Callable[..., NoReturn] = _refuse


def _emptied(cls: type[UndoableDict[Any, Any]]) -> UndoableDict[Any, Any]:
    return cls.__new__(cls)


_set_item = dict[Any, Any].__setitem__
_del_item = dict[Any, Any].__delitem__


class UndoableSet(UndoableDict[K, None]):
    """A set whose changes can be rolled back; it is changed by `add` and `discard` alone. Its order is undefined."""

    __slots__ = ()

    def add(self, item: K) -> None:
        """Add `item`, if it is not there."""
        if item not in self:
            self.set(item, None)


class UndoableValue(Generic[V]):
    """One value whose changes can be rolled back. It must be immutable."""

    __slots__ = ("_undoings", "_value")

    def __init__(self, undo: UndoLog, value: V) -> None:
        self._undoings = undo.undoings
        self._value = value

    def get(self) -> V:
        """Return the value."""
        return self._value

    def set(self, value: V) -> None:
        """Set the value."""
        self._undoings.append((self._restore, self._value))
        self._value = value

    def _restore(self, value: V) -> None:
        self._value = value
