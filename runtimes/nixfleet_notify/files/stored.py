"""What a notifier keeps in its directory: a file for each hook, for each dead letter, and for what is known of the log.

    format.json                   the number of this format
    sight.json                    what is known of the log
    hooks/NAME.json               the state of a hook
    dead/NAME/ID.json             a dead letter
    requests/NAME-NUMBER.json     what an operator asks of a hook, until it is done
    notifier, notifier.lock       the locks of the one process that writes here; requests may come from others

Files are replaced as a whole and flushed, so each is as it was or as it is to be. A message that is given up is a dead
letter before its hook goes on: a crash in between leaves it in both places, under one id.
Source: docs/spec/notifications.md, Files.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar, assert_never

from attrs import frozen

from nixfleet_notify.delivery.engine import Save
from nixfleet_notify.delivery.sight import Sight
from nixfleet_notify.delivery.state import DeadLetter, HookState, Replay, Request, Retry
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.storage.regular_file import read_regular_file
from nixfleet_runtime.storage.replaced_file import make_durable, replace_file

T = TypeVar("T")

FORMAT: Final = 1
_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
_SUFFIX: Final = ".json"


@frozen
class _Format:
    """The content of `format.json`."""

    format: int


@frozen
class _Requested:
    """The content of a request."""

    hook: str
    dead: tuple[str, ...] = ()
    replay_from: int | None = None


_SPELLING = Spelling(camel_case, Absent.LEFT_OUT)
_FORMAT_FILE = Coder[_Format](_SPELLING, _Format, "the format of a notifier's files")
_SIGHT_FILE = Coder[Sight](_SPELLING, Sight, "what a notifier knows of the log")
_HOOK_FILE = Coder[HookState](_SPELLING, HookState, "the state of a hook")
_DEAD_FILE = Coder[DeadLetter](_SPELLING, DeadLetter, "a dead letter")
_REQUEST_FILE = Coder[_Requested](_SPELLING, _Requested, "a request to a notifier")


class UnusableFiles(NixfleetError):
    """A notifier's directory cannot be used. Attributes: `path`, `problem`, `advice`."""

    def __init__(self, path: Path, problem: str, advice: str) -> None:
        super().__init__(path, problem, advice)
        self.path = path
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        named = self.problem if str(self.path) in self.problem else f"{self.path}: {self.problem}"
        return f"{named}; {self.advice}"


@frozen
class NotifierFiles:
    """The files in one directory. Calls block, and raise OSError or UnusableFiles."""

    directory: Path

    def prepare(self) -> None:
        """Make what is missing, and check that this version can read the rest."""
        self.directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        for name in ("hooks", "dead", "requests"):
            self._made(self.directory / name)
        found = self._read(self.directory / "format.json", _FORMAT_FILE)
        if found is None:
            self._write(self.directory / "format.json", _FORMAT_FILE, _Format(FORMAT))
        elif found.format != FORMAT:
            raise UnusableFiles(
                self.directory,
                f"expected files of format {FORMAT}, found format {found.format}",
                "use the version that wrote them, or a newer one",
            )

    def sight(self) -> Sight:
        """Return what is known of the log."""
        return self._read(self.directory / "sight.json", _SIGHT_FILE) or Sight()

    def save_sight(self, sight: Sight) -> None:
        """Make what is known of the log durable."""
        self._write(self.directory / "sight.json", _SIGHT_FILE, sight)

    def hook(self, name: str) -> HookState:
        """Return the state of a hook; of a new one that nothing was done."""
        return self._read(self._hook_path(name), _HOOK_FILE) or HookState()

    def save(self, name: str, order: Save) -> None:
        """Carry out a `Save` of a hook."""
        if order.dead is not None:
            self._made(self._dead_directory(name))
            self._write(self._dead_path(name, order.dead.message.id), _DEAD_FILE, order.dead)
        self._write(self._hook_path(name), _HOOK_FILE, order.state)
        if order.buried is not None:
            self._dead_path(name, order.buried).unlink(missing_ok=True)

    def dead_ids(self, name: str) -> tuple[str, ...]:
        """Return the ids of a hook's dead letters, the one that was given up first, first."""
        aged = list[tuple[int, str]]()
        with suppress(FileNotFoundError):
            for path in self._dead_directory(name).iterdir():
                # The running process removes those that were delivered.
                with suppress(FileNotFoundError):
                    if _is_ours(path):
                        aged.append((path.stat().st_mtime_ns, path.name))
        return tuple(file_name.removesuffix(_SUFFIX) for _, file_name in sorted(aged))

    def dead(self, name: str, message_id: str) -> DeadLetter | None:
        """Return a dead letter; `None`: there is none with this id."""
        return self._read(self._dead_path(name, message_id), _DEAD_FILE)

    def request(self, name: str, request: Request, at: datetime) -> Path:
        """Leave a request for a hook, and return its file. The running process takes it within seconds.

        One of the administrator's is given to the owner of the directory, who could not read it otherwise.
        """
        path = self.directory / "requests" / f"{name}-{at.timestamp():.6f}{_SUFFIX}"
        match request:
            case Retry():
                requested = _Requested(name, request.dead)
            case Replay():
                requested = _Requested(name, replay_from=request.from_seq)
            case _:
                assert_never(request)
        self._write(path, _REQUEST_FILE, requested)
        if os.geteuid() == 0:
            owner = self.directory.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
        return path

    def requests(
        self, unreadable: Callable[[Path, OSError], None]
    ) -> Iterator[tuple[Path, str, Request]]:
        """Yield what is asked of hooks, the oldest first, each with its file.

        unreadable: called with each file that this process cannot read. Raises: UnusableFiles, if a file that can be
        read has no request in it.
        """
        for path in sorted(self.directory.joinpath("requests").iterdir()):
            if not _is_ours(path):
                continue
            try:
                found = self._read(path, _REQUEST_FILE)
            except OSError as error:
                unreadable(path, error)
                continue
            if found is None:
                continue
            request: Request = Retry(found.dead)
            if found.replay_from is not None:
                request = Replay(found.replay_from)
            yield path, found.hook, request

    def _hook_path(self, name: str) -> Path:
        return self.directory / "hooks" / f"{name}{_SUFFIX}"

    def _dead_directory(self, name: str) -> Path:
        return self.directory / "dead" / name

    def _dead_path(self, name: str, message_id: str) -> Path:
        if "/" in message_id or message_id.startswith("."):
            raise ValueError(f"expected the id of a message, found {message_id!r}")
        return self._dead_directory(name) / f"{message_id}{_SUFFIX}"

    def _made(self, directory: Path) -> None:
        if not directory.is_dir():
            directory.mkdir(mode=_DIRECTORY_MODE)
            make_durable(directory.parent)

    def _read(self, path: Path, coder: Coder[T]) -> T | None:
        try:
            return coder.decode(read_regular_file(path))
        except FileNotFoundError:
            return None
        except DecodeError as error:
            advice = f"put back a copy of it, or move {self.directory} away to begin anew"
            raise UnusableFiles(path, str(error), advice) from error

    def _write(self, path: Path, coder: Coder[T], value: T) -> None:
        replace_file(path, coder.encode(value), mode=_MODE)


def _is_ours(path: Path) -> bool:
    # A file that is being replaced begins with a dot.
    return path.suffix == _SUFFIX and not path.name.startswith(".")
