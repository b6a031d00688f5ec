"""One performance of the demonstration: sets the stage, lets the story happen, checks what is left of it."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import anyio
from attrs import Factory, field, frozen
from rich.console import Console

from nixfleet_cli.demo import change_board, real_fleet
from nixfleet_cli.demo.at_rest import checked_at_rest
from nixfleet_cli.demo.declaration import declaration_of, hostnames_of
from nixfleet_cli.demo.in_process import NO_JUDGES, running_in_process
from nixfleet_cli.demo.page import page_shown, until_interrupted
from nixfleet_cli.demo.processes import running_processes
from nixfleet_cli.demo.runtimes import Runtimes
from nixfleet_cli.demo.scratch import scratch_directory
from nixfleet_cli.demo.screen import Screen, screen_for
from nixfleet_cli.demo.story import tell
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import Cast, World, database_in, made_world, trust_file_in
from nixfleet_cli.shared.clock_option import clock_arguments, shared_clock
from nixfleet_cli.shared.output import show_lines
from nixfleet_control_plane.judges.judge import Judge
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_proto.codec import format_time
from nixfleet_runtime.kernel.clock import ScaledClock

_PATIENCE_SECONDS_MIN = 30.0
_PATIENCE_FLEET_SECONDS = 1800.0


Tell = Callable[[World, Runtimes, Watch, Screen], Awaitable[None]]


@frozen
class Plot:
    """A story: with whom it happens, and what happens. judges: of the checks that its waves wait for."""

    cast: Cast
    tell: Tell
    judges: Mapping[str, Judge] = NO_JUDGES


def releases_plot(host_count: int) -> Plot:
    """Return the story of a good, a bad and a better release on so many hosts."""
    return Plot(Cast(hostnames_of(host_count), declaration_of), tell)


REAL_FLEET = Plot(
    Cast(real_fleet.HOSTS, real_fleet.declaration_of, real_fleet.OFF), real_fleet.tell
)


CHANGE_BOARD = Plot(
    Cast(change_board.HOSTS, change_board.declaration_of), change_board.tell, change_board.JUDGES
)


@frozen
class _Stage:
    """Which story happens with whom, how fast, and since when; in real seconds and the fleet's time."""

    plot: Plot
    speed: float
    in_processes: bool
    has_page: bool = False
    has_nats: bool = False
    began_at: datetime = field(factory=lambda: datetime.now(UTC))
    began_seconds: float = field(factory=time.monotonic)
    clock: ScaledClock = field(
        default=Factory(lambda self: shared_clock(self.speed, self.began_at), takes_self=True)
    )

    @property
    def patience_seconds(self) -> float:
        """How long one release may take: half an hour of the fleet's, or what a busy machine needs."""
        return max(_PATIENCE_SECONDS_MIN, _PATIENCE_FLEET_SECONDS / self.speed)

    def running(self, world: World) -> AbstractAsyncContextManager[Runtimes]:
        """Let the fleet of `world` run, as it is to run here, while the context is open."""
        if self.in_processes:
            arguments = clock_arguments(self.speed, self.began_at)
            return running_processes(world, arguments, has_nats=self.has_nats)
        return running_in_process(world, self.plot.cast.off, self.plot.judges)

    @property
    def told_duration(self) -> str:
        """How long it took, in both times."""
        fleet_seconds = int((self.clock.now() - self.began_at).total_seconds())
        minutes, seconds = divmod(fleet_seconds, 60)
        real_seconds = time.monotonic() - self.began_seconds
        return f"{real_seconds:.1f} s, in which {minutes} min {seconds} s passed for the fleet"


def perform(
    keep: Path | None,
    plot: Plot,
    speed: float,
    *,
    in_processes: bool,
    has_page: bool = False,
    has_nats: bool = False,
) -> None:
    """Show the whole story, and check its end.

    keep: where to work and leave everything; `None`: somewhere, and leave nothing. in_processes: whether each
    runtime is a process, and two of them are killed. has_page: whether it is shown in a browser too, until ^C.
    has_nats: whether the processes of hosts call over NATS.
    Raises: Findings, when the story went otherwise; Unusable, when `keep` is no place to begin in.
    """
    stage = _Stage(plot, speed, in_processes, has_page, has_nats)
    with scratch_directory(keep) as directory:
        anyio.run(_play, stage, directory)
        left = checked_at_rest(directory, plot.cast.hostnames)
    show_lines(["", *left.split("\n"), stage.told_duration])
    if keep is not None:
        _tell_where(keep, stage.clock.now())


async def _play(stage: _Stage, directory: Path) -> None:
    """Let the story happen in `directory`. Raises: WentWrong; what the runtimes raise."""
    went_wrong: WentWrong | None = None
    async with (
        made_world(directory, stage.plot.cast, stage.clock) as world,
        stage.running(world) as runtimes,
        AsyncExitStack() as shown,
    ):
        if stage.has_page:
            url = await shown.enter_async_context(runtimes.reached())
            await shown.enter_async_context(page_shown(world, url))
        with (
            closing(open_for_reading(database_in(directory))) as connection,
            screen_for(Console(), stage.clock, stage.plot.cast.hostnames) as screen,
        ):
            try:
                watch = Watch(connection, screen, stage.patience_seconds)
                await stage.plot.tell(world, runtimes, watch, screen)
            except WentWrong as error:
                went_wrong = error  # Raised here, task groups would wrap it once for every agent.
        if stage.has_page:
            await until_interrupted()
    if went_wrong is not None:
        raise went_wrong


def _tell_where(directory: Path, now: datetime) -> None:
    database = database_in(directory)
    commands = [f"nixfleet {each} {database}" for each in ("status", "log show", "log verify")]
    newest = max((directory / "releases").iterdir(), key=lambda release: release.stat().st_mtime_ns)
    check = f"nixfleet release check {newest} --trust {trust_file_in(directory)}"
    commands.append(f"{check} --at {format_time(now.replace(microsecond=0))}")
    show_lines(["", "Everything is kept. Look at it with:", *(f"  {each}" for each in commands)])
    show_lines(
        ["(--at: the fleet's clock was ahead of this machine's, and signatures have its time.)"]
    )
