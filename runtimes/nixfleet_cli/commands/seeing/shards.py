"""`nixfleet operator shards`: the logs of the fleet, and which channels each has."""

from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.output import Row
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.shards import SHARD_LIST, ListedShard


@command()
@asks("one object a shard, with name, channels, head and queueLength")
def shards(session: Session) -> None:
    """List the shards of the fleet and their channels.

    With the last row of each log, and how many inputs wait. A fleet whose control plane has no [shards] has one, main.
    `operator log --shard NAME` prints the log of one.
    """
    found = session.read(paths.SHARDS, SHARD_LIST).shards
    values = map(SHARD_LIST.spelling.converter.unstructure, found)
    session.output.rows(values, map(_row, found), ("shard", "last row", "queue", "channels"))


def _row(each: ListedShard) -> Row:
    return each.name, str(each.head), str(each.queue_length), ", ".join(each.channels)
