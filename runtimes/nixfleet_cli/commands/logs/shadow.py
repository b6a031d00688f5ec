"""`nixfleet log shadow`: another policy beside the one in force, on the facts as they come."""

import time
from collections.abc import Iterator
from pathlib import Path

import click

from nixfleet_cli.commands.logs.backtest import read_policy, require_same_fleet
from nixfleet_cli.shared.arguments import now
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import following, store_argument
from nixfleet_cli.shared.other_policies import Revision
from nixfleet_cli.shared.output import Output, printing, shown_time
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.reading.stored_log import FollowedLog
from nixfleet_forecast.backtest.shadow import Difference, Shadow
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.process import garbage


@command(name="shadow")
@store_argument
@click.option(
    "--policy",
    "policy_file",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="A declaration of the same fleet with another policy.",
)
@click.option(
    "--every",
    "every_seconds",
    metavar="SECONDS",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    help="How often the log is looked at.",
)
@click.option("--once", is_flag=True, help="Say how it stands now, and end.")
@printing("one object a line, with at, seq, rolloutId, text and isNew (false: it is so no longer)")
def shadow_log(
    output: Output, store: StoreConfig, policy_file: Path, every_seconds: int, once: bool
) -> None:
    """Run another policy beside the one in force.

    Reads the log of a running control plane and, whenever it has grown, says where the rollouts under way would stand
    under the policy in FILE, a declaration that is read once: the wave and the state, the hosts that would have begun,
    and those that would not. Each difference is printed once when it begins and once when it ends. It is a back-test up
    to now of the rollouts that have not ended, with the same assumptions: a look costs what these cost, and not the
    whole log. Nothing is written, and the control plane is not slowed down. DB is the database of a control plane.

    Exit codes: 0 success; 1 a row is damaged, or FILE has problems or is of another fleet; 2 DB cannot be read.
    """
    garbage.collect_rarely()
    shadow = _Shadow(policy_file)
    with following(store) as log:
        while True:
            for difference, is_new in shadow.look(log):
                _show(output, shadow.head_seq, difference, is_new=is_new)
            if once:
                return
            time.sleep(every_seconds)


def _show(output: Output, head_seq: int, difference: Difference, *, is_new: bool) -> None:
    at = now()
    mark = "" if is_new else "no longer: "
    output.show(
        {
            "at": at,
            "seq": head_seq,
            "rolloutId": difference.rollout_id,
            "text": difference.text,
            "isNew": is_new,
        },
        [f"{shown_time(at)}  {difference.rollout_id}  {mark}{difference.text}"],
    )


class _Shadow:
    """What was read of a log, and the differences that were printed."""

    def __init__(self, file: Path) -> None:
        """Raises: Findings, if `file` has problems."""
        self._file = file
        self._checked = read_policy(file)
        self._shadow: Shadow | None = None
        self._printed: dict[Difference, None] = {}

    @property
    def head_seq(self) -> int:
        """The last row that was read."""
        return 0 if self._shadow is None else self._shadow.head_seq

    def look(self, log: FollowedLog) -> Iterator[tuple[Difference, bool]]:
        """Read what came to `log`, and yield the differences that began and those that ended since."""
        before = self.head_seq
        with log.look() as stored:
            if self._shadow is None:
                start = stored.ask(lambda it: it.log_start())
                self._shadow = Shadow(Replay(start), Replay(start), SystemZones())
            for row in stored.rows(self.head_seq):
                self._shadow.take(row)
        if self.head_seq == before:
            return
        revision = Revision(self._file, self._checked)
        found = dict.fromkeys(self._shadow.differences(revision))
        require_same_fleet(revision)
        yield from ((it, True) for it in found if it not in self._printed)
        yield from ((it, False) for it in self._printed if it not in found)
        self._printed = found
