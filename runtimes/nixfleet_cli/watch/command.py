"""`nixfleet watch`: follow a rollout until you have seen enough, or until a build server may go on."""

import anyio
import click
from rich.console import Console

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.operator_client import operating
from nixfleet_cli.shared.output import note
from nixfleet_cli.watch.ending import Ending, Until
from nixfleet_cli.watch.following import follow
from nixfleet_cli.watch.screens import screen_for
from nixfleet_cli.watch.watched import Watched
from nixfleet_proto.ids import InvalidRolloutId, RolloutId, is_channel_name
from nixfleet_runtime.kernel.clock import SystemClock


@command()
@click.argument("watched_name", metavar="[NAME]", required=False)
@click.option(
    "--until",
    type=click.Choice([str(each) for each in Until]),
    help="End when every watched rollout is done; when one is halted; or when something needs a person.",
)
@click.option(
    "--within-minutes",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="With --until: fail if that takes longer.",
)
@asks(
    "one object a line whenever something has changed, with head, headAt, now, leader, you, fleet, "
    "needsYou and rollouts"
)
def watch(
    session: Session, watched_name: str | None, until: str | None, within_minutes: float | None
) -> None:
    """Follow a rollout as it goes.

    NAME: a rollout, or a channel for its current one. Without it: the current rollouts of all channels.

    A terminal shows one picture, which is drawn anew as the fleet goes on. A pipe gets lines.

    Exit codes: 0 what --until waits for is so; 1 it cannot come any more, such as done after a halt, or did not come in
    time, or the control plane refuses the key or the request; 2 no answer to the first request, or an option is wrong.
    """
    if within_minutes is not None and until is None:
        raise click.UsageError("expected --until with --within-minutes, found it alone")
    watched = _watched(watched_name)
    waited_for = None if until is None else Until(until)
    try:
        ending = anyio.run(_followed, session, watched, waited_for, within_minutes)
    except KeyboardInterrupt:
        if waited_for is not None:  # Not to be taken for success.
            raise
        note("")
        return
    if ending is None:
        raise Findings(
            f"out of time: expected {until} within {within_minutes:g} minutes, found it not so; it may still come"
        )
    if not ending.is_reached:
        raise Findings(f"expected {until}, found: {ending.text}")


async def _followed(
    session: Session, watched: Watched, until: Until | None, within_minutes: float | None
) -> Ending | None:
    """Return how the wait ended, `None` if its time was over before."""
    clock = SystemClock()
    with anyio.move_on_after(None if within_minutes is None else within_minutes * 60):
        async with operating(session.address, clock) as client:
            with screen_for(session.output, Console(), clock) as screen:
                return await follow(client, watched, screen, until, anyio.sleep)
    return None


def _watched(name: str | None) -> Watched:
    """Raises: UsageError, for a name that no channel and no rollout can have."""
    try:
        if name is not None and not is_channel_name(name):
            RolloutId(name)
    except InvalidRolloutId as error:
        raise click.UsageError(
            f"expected a channel or a rollout, found {name!r}: {error}"
        ) from error
    return Watched(name)
