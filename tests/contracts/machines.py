"""The machines on which our activators are held to their contract: real directories, and a fake NixOS."""

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from nixfleet_agent.activation.activator import SWITCH_SCRIPT, Activator
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_runtime.releases.nar import closure_name_of
from nixfleet_testing.contracts.activator import ActivatedMachine, SwitchBehaviour
from tests.agent.fake_nixos import FakeNixos, Parts, PassingClock, Switch

SCRIPTS = {
    SwitchBehaviour.SUCCEEDS: "",
    SwitchBehaviour.FAILS: "exit 7",
    SwitchBehaviour.DEFERRED: "exit 100",
    SwitchBehaviour.STUCK_ONCE: 'if [ ! -e "$STUCK" ]; then touch "$STUCK"; exec sleep 60; fi',
}


class DirectoryMachine(ActivatedMachine):
    """Closures are directories with real scripts, each of which leaves a line when it begins."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.store.mkdir()
        self.profile = directory / "profile"
        self._began = directory / "began"
        self._stuck = directory / "stuck"
        self.environment = {"BEGAN": str(self._began), "STUCK": str(self._stuck)}

    def activator(self) -> Activator:
        return DirectoryActivator(self.store, self.profile, environment=self.environment)

    def add(self, name: str, behaviour: SwitchBehaviour = SwitchBehaviour.SUCCEEDS) -> str:
        tree = self.store / name
        script = tree / SWITCH_SCRIPT
        script.parent.mkdir(parents=True)
        script.write_text(
            f'#!/bin/sh\necho "$NIXFLEET_CLOSURE" >> "$BEGAN"\n{SCRIPTS[behaviour]}\n'
        )
        script.chmod(0o755)
        closure = closure_name_of(tree, name)
        tree.rename(self.store / closure)
        return closure

    async def boot(self, closure: str) -> None:
        await self.activator().switch(closure)
        self._began.unlink()

    def switched(self) -> Sequence[str]:
        return self._began.read_text().splitlines() if self._began.exists() else []

    async def until_stuck(self) -> None:
        while not self._stuck.exists():  # noqa: ASYNC110 - another process makes it
            await anyio.sleep(0.005)

    def withhold(self, closure: str) -> Callable[[], None]:
        delivered, away = self.store / closure, self.store / f".{closure}"
        delivered.rename(away)

        def deliver() -> None:
            away.rename(delivered)

        return deliver

    def spoil(self, closure: str) -> None:
        (self.store / closure / "planted").touch()


class StickyClock(PassingClock):
    """A clock on which a sleep takes no time, or, when told so, never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stuck = False
        self.stuck = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        if self.is_stuck:
            self.stuck.set()
            await anyio.sleep_forever()
        await super().sleep(seconds)


FIRED = ["systemd-run", "--unit=nixfleet-switch"]


class NixosMachine(ActivatedMachine):
    """A real store and real links; programs that do to them what NixOS's do. A switch outlives its agent there."""

    def __init__(self, directory: Path) -> None:
        self._clock = StickyClock()
        self._nixos = FakeNixos(directory, self._clock)

    def activator(self) -> Activator:
        self._clock.is_stuck = False
        return self._nixos.activator()

    def add(self, name: str, behaviour: SwitchBehaviour = SwitchBehaviour.SUCCEEDS) -> str:
        parts = Parts(kernel="linux-7.0") if behaviour is SwitchBehaviour.DEFERRED else Parts()
        closure = self._nixos.add(
            name, Switch(exit_code=7 if behaviour is SwitchBehaviour.FAILS else 0), parts=parts
        )
        if behaviour is SwitchBehaviour.FAILS:
            running = self._nixos.current_system
            self._nixos.switches[closure].flips_to = (
                running.resolve().name if running.exists() else None
            )
        return closure

    async def boot(self, closure: str) -> None:
        self._nixos.boot(closure)

    def withhold(self, closure: str) -> Callable[[], None]:
        delivered, away = self._nixos.store / closure, self._nixos.directory / "away"
        delivered.rename(away)

        def deliver() -> None:
            away.rename(delivered)

        return deliver

    def switched(self) -> Sequence[str]:
        fired = (command.split() for command in self._nixos.commands)
        return [Path(words[-2]).parent.parent.name for words in fired if words[:2] == FIRED]

    async def until_stuck(self) -> None:
        self._clock.is_stuck = True
        await self._clock.stuck.wait()
