"""Activates closures that are plain directories. Owns two links, and runs one script per switch.

`profile` points to the selected closure: the one that boots, and where services find their files.
`switching_from` exists only while a switch is unfinished and points to the last closure whose switch
succeeded. Both are replaced atomically and made durable before anything relies on them:

    1. check that the tree is there, hashes to its     nothing has changed yet
       name, and that nobody else decides what is
       in it
    2. link switching_from to the running closure      the switch is marked as unfinished
    3. link profile to the new closure
    4. run <closure>/bin/switch-to-configuration switch, if the closure has one
    5. remove switching_from                            the new closure runs

So a closure counts as running only after its script succeeded. After a failure or a crash in
between, `profile` stays at the new closure (it is partly activated), `current()` returns the old one,
and the next closure to be activated gets its script run. If `profile` alone decided what runs, a
repeated call would find a failed closure "running" and report success, and the next rollout would use
it as its rollback target. Scripts must therefore be idempotent.

Script: argument `switch`; in the closure's directory; environment: the agent's PATH, what
`environment` adds, and NIXFLEET_CLOSURE (its name), NIXFLEET_CLOSURE_ROOT, NIXFLEET_PROFILE. When
the script has ended or was stopped, whatever is left in its session is killed and its output is
closed: a service is started by a service manager, or by `setsid` with its output redirected. Exit 0:
success. Exit 100, as on NixOS: the running init cannot be replaced; the switch is deferred with
component `init`, and `switching_from` stays until the next boot. For that it must be on a file system
that is emptied at boot (`/run/nixfleet/switching-from`): a missing link then means that the machine
booted into `profile`. Any other exit code: failed.

Only the process that fills the store may have write access to it: nothing is checked between the hash
and the script. A store that everybody can write is refused, and a closure with a link that leads out of
it or with files that are setuid, setgid or writable for everybody.
Source: docs/spec/runtimes.md, Activators; docs/spec/declarations.md, What signs what.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread
from attrs import Factory, field, frozen

from nixfleet_agent.activation.activator import (
    EXIT_CODE_DEFERRED,
    EXIT_CODE_OF_AGENT,
    SWITCH_SCRIPT,
    ClosureMismatch,
    ClosureNotHere,
    NoRunningClosure,
    Prepared,
    PrepareOutcome,
    RollbackFinished,
    SwitchCompleted,
    SwitchDeferred,
    SwitchFailed,
    SwitchOutcome,
    SwitchPhase,
    rollback_finished,
    time_limit_seconds_of,
)
from nixfleet_runtime.process.command import OUTPUT_BYTES_MAX, CommandOutcome, run_command
from nixfleet_runtime.process.threads import in_abandonable_thread
from nixfleet_runtime.releases.closure_tree import (
    UnfitClosure,
    checked_closure_name,
    require_safe_store,
)
from nixfleet_runtime.releases.nar import (
    FileChangedWhileRead,
    InvalidClosureName,
    NotArchivable,
    split_closure_name,
)

_DEFERRED_COMPONENT: Final = "init"
_NOTHING: Final = "nothing"

_T = TypeVar("_T")


def _beside_the_profile(activator: "DirectoryActivator") -> Path:
    return activator.profile.with_name(f"{activator.profile.name}.switching-from")


@frozen
class DirectoryActivator:
    """An `Activator` for closures in `store/<closure name>`, selected by the link `profile`."""

    store: Path
    profile: Path
    switching_from: Path = field(default=Factory(_beside_the_profile, takes_self=True))
    switch_timeout_seconds: float = 300.0
    environment: Mapping[str, str] = field(factory=dict)

    @property
    def switch_method(self) -> str:
        """The value for `ActivationStarted.switch_method`."""
        return "directory"

    def root_of(self, closure: str) -> Path:
        """Return the directory of `closure`, whether it exists or not."""
        return self.store / closure

    async def current(self) -> str:
        """Return the last closure whose switch succeeded.

        Raises: NoRunningClosure.
        """
        running = self._running()
        if running is None:
            raise NoRunningClosure(self.profile)
        return running

    async def prepare(self, closure: str) -> PrepareOutcome:
        """Check that the tree of `closure` is in the store and hashes to its name. Who fills the store copies it."""
        # Abandoned on cancellation: a thread that reads on is harmless, waiting for it is not.
        return await in_abandonable_thread(lambda: self._verified(closure))

    async def switch(
        self, closure: str, time_limit_seconds: float | None = None, order_id: str = ""
    ) -> SwitchOutcome:
        """Check `closure`, select it and run its script, unless it is running already.

        order_id: not used. The script ends with the agent, and is run again.
        """
        limit_seconds = time_limit_seconds_of(self.switch_timeout_seconds, time_limit_seconds)
        if self._is_settled_at(closure):
            return SwitchCompleted(closure, 0)
        prepared = await self.prepare(closure)
        if not isinstance(prepared, Prepared):
            return prepared
        phase = SwitchPhase.PROFILE_SET
        try:
            await _in_thread(lambda: self._select(closure))
            phase = SwitchPhase.SWITCH
            outcome = await self._run_script(closure, limit_seconds)
            phase = SwitchPhase.CONFIRM
            if outcome.exit_code == 0 and not outcome.wrote_too_much:
                await _in_thread(lambda: _remove_link(self.switching_from))
        except OSError as error:
            return SwitchFailed(phase, EXIT_CODE_OF_AGENT, str(error))
        return _switched(closure, outcome, limit_seconds)

    async def rollback(self, closure: str, order_id: str = "") -> RollbackFinished:
        """Switch back to `closure`: the same steps, so it too is checked and runs its own script."""
        outcome = await self.switch(closure)
        return rollback_finished(outcome, self._running() or "")

    async def answered(self) -> None:
        """Do nothing: the script ends with the agent, so an agent always comes up beside the closure that it left."""

    def _running(self) -> str | None:
        unfinished = _closure_at(self.switching_from)
        if unfinished is None:
            return _closure_at(self.profile)
        return None if unfinished == _NOTHING else unfinished

    def _is_settled_at(self, closure: str) -> bool:
        return _closure_at(self.switching_from) is None and _closure_at(self.profile) == closure

    def _verified(self, closure: str) -> PrepareOutcome:
        root = self.root_of(closure)
        try:
            _, name = split_closure_name(closure)
            expected = f"{root}: expected the directory of the closure"
            if not os.path.lexists(root):
                return ClosureNotHere(f"{expected}, found nothing")
            # A link would be hashed as a link, and what it leads to would be run unchecked.
            if root.is_symlink() or not root.is_dir():
                reason = f"{expected}, found something else"
                return SwitchFailed(SwitchPhase.REALISE, EXIT_CODE_OF_AGENT, reason)
            require_safe_store(self.store)
            actual = checked_closure_name(root, name)
        except InvalidClosureName as error:
            return SwitchFailed(SwitchPhase.REALISE, EXIT_CODE_OF_AGENT, str(error))
        except (FileChangedWhileRead, FileNotFoundError) as error:
            # It is still being copied: a file grew, or a temporary file got its name.
            return ClosureNotHere(f"{root}: expected a complete copy of the closure: {error}")
        except (NotArchivable, UnfitClosure, OSError) as error:
            return SwitchFailed(SwitchPhase.VERIFY, EXIT_CODE_OF_AGENT, str(error))
        return Prepared(closure) if actual == closure else ClosureMismatch(closure, actual)

    def _select(self, closure: str) -> None:
        if not self.switching_from.is_symlink():
            leaving = _closure_at(self.profile)
            _replace_link(self.switching_from, self.root_of(leaving) if leaving else Path(_NOTHING))
        _replace_link(self.profile, self.root_of(closure).absolute())

    async def _run_script(self, closure: str, limit_seconds: float) -> CommandOutcome:
        root = self.root_of(closure).absolute()
        if not _has_script(root):
            return CommandOutcome(0)
        return await run_command(
            [str(root / SWITCH_SCRIPT), "switch"],
            timeout_seconds=limit_seconds,
            cwd=root,
            environment={
                "PATH": os.environ.get("PATH", os.defpath),
                **self.environment,
                "NIXFLEET_CLOSURE": closure,
                "NIXFLEET_CLOSURE_ROOT": str(root),
                "NIXFLEET_PROFILE": str(self.profile.absolute()),
            },
        )


def _switched(closure: str, outcome: CommandOutcome, limit_seconds: float) -> SwitchOutcome:
    if outcome.timed_out:
        reason = f"stopped after {limit_seconds:g} s: {outcome.stderr_tail}"
        return SwitchFailed(SwitchPhase.SWITCH, outcome.exit_code, reason)
    if outcome.wrote_too_much:
        reason = f"stopped after {OUTPUT_BYTES_MAX} bytes of output: {outcome.stderr_tail}"
        return SwitchFailed(SwitchPhase.SWITCH, outcome.exit_code, reason)
    if outcome.exit_code == 0:
        return SwitchCompleted(closure, 0)
    if outcome.exit_code == EXIT_CODE_DEFERRED:
        return SwitchDeferred(_DEFERRED_COMPONENT)
    return SwitchFailed(SwitchPhase.SWITCH, outcome.exit_code, outcome.stderr_tail)


def _has_script(root: Path) -> bool:
    # A dangling link counts: running it fails with an error.
    return os.path.lexists(root / SWITCH_SCRIPT)


def _closure_at(link: Path) -> str | None:
    """Return the name of the closure that `link` points to, `None` without a link."""
    try:
        return link.readlink().name
    except FileNotFoundError:
        return None


def _replace_link(link: Path, target: Path) -> None:
    """Make `link` point to `target`, atomically and durably."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
    _sync_directory(link.parent)


def _remove_link(link: Path) -> None:
    link.unlink(missing_ok=True)
    _sync_directory(link.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _in_thread(work: Callable[[], _T]) -> _T:
    return await anyio.to_thread.run_sync(work)
