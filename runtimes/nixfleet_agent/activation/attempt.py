"""The record of a switch, written before it is started. One small file beside the agent's journal.

A switch may end the agent, hang the machine or be undone by a person, so an agent that starts must tell three things
apart: the switch goes on, it has ended, or the machine was brought back since. The boot and the running system of
before decide that. The journal's order is not enough: it says that a switch was begun, and not on what.
Source: docs/spec/runtimes.md, A switch is on record.
"""

import json
from pathlib import Path
from typing import Self

from attrs import asdict, frozen

from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.storage.replaced_file import replace_file


@frozen
class Attempt:
    """A switch of one order.

    running: the system that ran before it. boot_id: of the boot in which it began. failed_units: units that had
    failed before it. is_armed: whether the dead-man timer waits for an answer of the control plane.
    """

    order_id: str
    closure: str
    running: str
    boot_id: str
    failed_units: tuple[str, ...] = ()
    is_armed: bool = False

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Return the attempt in `text`. Raises: ValueError, TypeError, KeyError: it is not one."""
        found = json.loads(text)
        names = ("order_id", "closure", "running", "boot_id")
        values = {name: found[name] for name in names}
        units = found["failed_units"]
        if not all(isinstance(each, str) for each in (*values.values(), *units)):
            raise TypeError(text)
        return cls(**values, failed_units=tuple(units), is_armed=found["is_armed"] is True)


@frozen
class AttemptFile:
    """Where the last switch is on record."""

    path: Path

    def of_order(self, order_id: str) -> Attempt | None:
        """Return the switch of this order, `None` if none is on record. An order without an id has no record.

        Raises: OSError.
        """
        attempt = self.last() if order_id else None
        return attempt if attempt is not None and attempt.order_id == order_id else None

    def last(self) -> Attempt | None:
        """Return the last switch, `None` if there was none. Raises: OSError."""
        try:
            return Attempt.of_json(read_regular_file(self.path).decode())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            # It is replaced atomically, so it was not written by an agent: the order is carried out as a new one.
            return None

    def forget(self) -> None:
        """Remove the record: the switch has ended, and what runs says all. Raises: OSError."""
        self.path.unlink(missing_ok=True)

    def put(self, attempt: Attempt) -> None:
        """Record `attempt` in place of the one before, durably. Raises: OSError."""
        write_beside_the_journal(self.path, json.dumps(asdict(attempt)))


def write_beside_the_journal(path: Path, text: str) -> None:
    """Replace the file at `path`, durably; its directory is made. Raises: OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, text.encode(), mode=0o600)
