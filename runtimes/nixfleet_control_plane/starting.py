"""What keeps a control plane from starting, by name: each failure says what is to be done. Decides nothing else."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.messages.entry_codec import DamagedRow
from nixfleet_control_plane.reading.queries import NotReadable
from nixfleet_control_plane.store.opened_store import StoreUnusable
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.config.plugins import PluginUnusable
from nixfleet_runtime.kernel.write_failures import Unreachable, WritingEnded
from nixfleet_runtime.storage.instance_lock import DatabaseInUse
from nixfleet_runtime.storage.opening import UnusableDatabase, opening_database
from nixfleet_runtime.transport import TransportUnusable
from nixfleet_state_machine.host.errors import TransitionError

DAMAGED: Final = (
    "restore a backup, or move it away: without it, the hosts tell what their journals have"
)


class CannotStart(NixfleetError):
    """Something that the configuration names cannot be used. Attributes: `what`, `problem`."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what = what
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}"


@contextmanager
def ending_by_name() -> Iterator[None]:
    """Raise what ended the service as it is: a task group wraps it."""
    try:
        yield
    except BaseExceptionGroup as group:
        ended, others = group.split((WritingEnded, CannotStart))
        if ended is None or others is not None:
            raise
        cause: BaseException = ended
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from group


@contextmanager
def using_store(store: StoreConfig) -> Iterator[None]:
    try:
        with ExitStack() as sqlite:
            if store.path is not None:
                sqlite.enter_context(
                    opening_database(
                        store.path, "store.path", "the database of a control plane", DAMAGED
                    )
                )
            with using_plugin("the store"):
                yield
    except (DatabaseInUse, UnusableDatabase, NotReadable, StoreUnusable, Unreachable) as error:
        raise CannotStart("the database", str(error)) from error
    except (DamagedRow, DecodeError, TransitionError) as error:
        advice = (
            f'"nixfleet log verify {store.argument}" tells whether the log was altered; {DAMAGED}'
        )
        raise CannotStart("the database", f"{store.where}: {error}; {advice}") from error
    except NixfleetError:
        raise
    except Exception as error:
        if not store.plugin.distribution:
            raise  # A fault of our own is no fault of the store.
        failed = store.plugin.failed("what it has to be loaded", error)
        raise CannotStart("the store", str(failed)) from error


@contextmanager
def using_plugin(what: str) -> Iterator[None]:
    try:
        yield
    except (PluginUnusable, TransportUnusable) as error:
        raise CannotStart(what, str(error)) from error
