"""What the part that `[store] kind` names must make: a way to open a store, with its read port.

Source: docs/how-to/embedding.md, Plug-ins.
"""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias

from attrs import frozen

from nixfleet_control_plane.history.rebuild import ChainReport
from nixfleet_control_plane.history.retention.keeper import LogKeeper
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.store.store import Store
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.process.progress import Noted
from nixfleet_runtime.storage.file_format import Step


class StoreUnusable(NixfleetError):
    """The store cannot be opened for a reason that its operator can remove. Subclasses say what to do."""


class ViewsOfStoreDiffer(StoreUnusable):
    """This program derives other views from the log than the store has, so it does not write to it."""


@frozen
class OpenedStore:
    """A store, and what reads beside it. keeper: what exports and drops old rows, if the store can do that."""

    store: Store
    queries: Queries
    keeper: LogKeeper | None = None


StoreOpener: TypeAlias = Callable[[], AbstractAsyncContextManager[OpenedStore]]
"""Opens a store for this process alone, and closes it at the end of the context. Called once, in the event loop.

Raises: StoreUnusable.
"""


class ReadBeside(Protocol):
    """What a `StoreOpener` may have as well, so that `nixfleet status` and `nixfleet log` can read its store."""

    def reading(self) -> AbstractAsyncContextManager[Queries]:
        """Open the read port alone, while another process may have the store: takes no lock, and writes nothing.

        All answers should be of one moment, so later commits need not be seen. Raises: NotReadable.
        """
        ...


class FollowedBeside(Protocol):
    """What a `StoreOpener` may have as well, so that a process beside it can follow its log at little cost.

    `GET /v1/forecast` and `nixfleet log shadow` use it. Without it they use `reading`, anew for each look.
    """

    def following(self) -> AbstractAsyncContextManager[Queries]:
        """Open the read port alone, as `reading` does, but each answer is as of its question. Raises: NotReadable."""
        ...


class KeptBeside(Protocol):
    """What a `StoreOpener` may have as well, so that `nixfleet log export` can export and drop, and `nixfleet status`
    say what keeps old rows.
    """

    def keeping(self) -> AbstractAsyncContextManager[LogKeeper]:
        """Open what exports and drops, also while another process has the store. Raises: StoreUnusable, NotReadable."""
        ...


@frozen
class StoreUpgrade:
    """An upgrade of a store. found: its version before; version: that of this program.

    corrected: the rows of views that were derived anew, a line each. rows: of the log; `None`: nothing was done.
    """

    found: int
    version: int
    steps: tuple[Step, ...]
    corrected: tuple[str, ...] = ()
    rows: int | None = None


class UpgradedBeside(Protocol):
    """What a `StoreOpener` may have as well, so that `nixfleet db upgrade` upgrades its store."""

    async def upgrade(self, *, dry_run: bool, rebuild: bool, noted: Noted) -> StoreUpgrade:
        """Upgrade the store, and compare its views with its log. dry_run: change nothing, and say what would be done.

        rebuild: replace each row of the views that differs. noted: so many more rows were replayed.
        Raises: StoreUnusable, DamagedRow.
        """
        ...


class FilledFrom(Protocol):
    """What a `StoreOpener` may have as well, so that `nixfleet db copy` can move a SQLite store into its store."""

    async def fill(self, source: sqlite3.Connection, chain: ChainReport, where: str) -> None:
        """Copy all of `source` into the store, which has nothing yet. All of it is there in the end, or nothing.

        chain: of the source, intact. where: what messages call the source. Raises: StoreUnusable.
        """
        ...
