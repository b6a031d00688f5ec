"""What must hold of the demonstration's files once everything has stopped: the log proves itself and its views.

And the two sides agree: what the control plane's log comes to for a host is, field by field, what the
host's own journal says.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_cli.commands.status import rollout_lines
from nixfleet_cli.demo.watch import WentWrong
from nixfleet_cli.demo.world import database_in, journal_in
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.rebuild import check_chain, check_views
from nixfleet_control_plane.store.queries import open_for_reading, rollouts
from nixfleet_runtime.kernel.visible import visible


def checked_at_rest(directory: Path, hostnames: Sequence[str]) -> str:
    """Return how the world in `directory` was left, in words. Raises: WentWrong."""
    with closing(open_for_reading(database_in(directory))) as connection:
        state = Follower(connection).read_all()
        differences = (
            *_log_differences(connection),
            *_agent_differences(directory, hostnames, state),
        )
        if differences:
            raise WentWrong(differences)
        return (
            "\n".join(map(visible, rollout_lines(rollouts(connection), state))) + "\n\n"
            f"the log: {state.head_seq} rows; the hash chain holds, the views derived from it again "
            "are the stored ones, and every agent's own journal says the same"
        )


def _log_differences(connection: sqlite3.Connection) -> Iterator[str]:
    chain = check_chain(connection)
    if chain.problem is not None:
        yield f"log row {chain.broken_at}: {chain.problem}"
    for each in check_views(connection).differences:
        where = "only the table" if each.stored else "only the log"
        yield f"view {each.table}: expected the log and the table to agree, found in {where} {each.row}"


def _agent_differences(directory: Path, hostnames: Sequence[str], state: State) -> Iterator[str]:
    for hostname in hostnames:
        with closing(SqliteJournal(journal_in(directory, hostname))) as journal:
            rollouts = journal.load().rollouts
        for rollout in rollouts:
            known = state.view.host(rollout.record.rollout_id, hostname)
            if known != rollout.record:
                yield f"{hostname} in {rollout.record.rollout_id}: expected {known}, found {rollout.record}"
