"""One performance of the demonstration: sets the stage, lets the story happen, checks what is left of it."""

import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import anyio
import click
from attrs import Factory, field, frozen
from rich.console import Console

from nixfleet_cli.demo.at_rest import checked_at_rest
from nixfleet_cli.demo.declaration import hostnames_of
from nixfleet_cli.demo.in_process import running_in_process
from nixfleet_cli.demo.scratch import scratch_directory
from nixfleet_cli.demo.screen import screen_for
from nixfleet_cli.demo.story import tell
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import database_in, made_world
from nixfleet_control_plane.queries import open_for_reading
from nixfleet_runtime.clock import ScaledClock

_PATIENCE_SECONDS_MIN = 30.0
_PATIENCE_FLEET_SECONDS = 1800.0


@frozen
class _Stage:
    """With how many hosts the story happens, how fast, and since when; in real seconds and the fleet's time."""

    host_count: int
    clock: ScaledClock
    began_at: datetime = field(default=Factory(lambda self: self.clock.now(), takes_self=True))
    began_seconds: float = field(factory=time.monotonic)

    @property
    def patience_seconds(self) -> float:
        """How long one release may take: half an hour of the fleet's, or what a busy machine needs."""
        return max(_PATIENCE_SECONDS_MIN, _PATIENCE_FLEET_SECONDS / self.clock.speed)

    @property
    def told_duration(self) -> str:
        """How long it took, in both times."""
        fleet_seconds = int((self.clock.now() - self.began_at).total_seconds())
        minutes, seconds = divmod(fleet_seconds, 60)
        real_seconds = time.monotonic() - self.began_seconds
        return f"{real_seconds:.1f} s, in which {minutes} min {seconds} s passed for the fleet"


def perform(keep: Path | None, host_count: int, speed: float) -> None:
    """Show the whole story, and check its end.

    keep: where to work and leave everything; `None`: somewhere, and leave nothing.
    Raises: Findings, when the story went otherwise; Unusable, when `keep` is no place to begin in.
    """
    stage = _Stage(host_count, ScaledClock(speed))
    with scratch_directory(keep) as directory:
        anyio.run(_play, stage, directory)
        left = checked_at_rest(directory, hostnames_of(host_count))
    click.echo(f"\n{left}\n{stage.told_duration}")
    if keep is not None:
        _tell_where(database_in(keep))


async def _play(stage: _Stage, directory: Path) -> None:
    """Let the story happen in `directory`. Raises: WentWrong; what the runtimes raise."""
    went_wrong: WentWrong | None = None
    async with (
        made_world(directory, stage.host_count, stage.clock) as world,
        running_in_process(world) as runtimes,
    ):
        with (
            closing(open_for_reading(database_in(directory))) as connection,
            screen_for(Console(), stage.clock, hostnames_of(stage.host_count)) as screen,
        ):
            try:
                watch = Watch(connection, screen, stage.patience_seconds)
                await tell(world, runtimes, watch, screen)
            except WentWrong as error:
                went_wrong = error  # Raised here, task groups would wrap it once for every agent.
    if went_wrong is not None:
        raise went_wrong


def _tell_where(database: Path) -> None:
    click.echo("\nEverything is kept. Look at it with:")
    for command in ("status", "log show", "log verify"):
        click.echo(f"  nixfleet {command} {database}")
