"""Loads an agent's state from its journal, and finds the rollouts with unsent facts.

Source: docs/spec/runtimes.md, Boot; docs/spec/runtimes.md, Journal.
"""

from nixfleet_agent.engine.state import State
from nixfleet_agent.journal.journal import BlockingJournal, Journal, JournalSnapshot
from nixfleet_proto.ids import RolloutId


async def loaded_state(journal: Journal, hostname: str) -> State:
    """Return the state as of the last commit. Raises: the errors of `Journal.load`."""
    return state_of(await journal.load(), hostname)


def load_state(journal: BlockingJournal, hostname: str) -> State:
    """As `loaded_state`."""
    return state_of(journal.load(), hostname)


def state_of(snapshot: JournalSnapshot, hostname: str) -> State:
    """Return the state that `snapshot` has."""
    state = State(hostname)
    for rollout in snapshot.rollouts:
        state.rollouts.set(rollout.record.rollout_id, rollout)
    for intent in snapshot.intents:
        state.intents.set(intent.intent_id, intent)
    state.newest_release.set(snapshot.newest_release)
    for left in snapshot.rolled_back:
        state.rolled_back.set(left.closure, left)
    for order_id, order in snapshot.orders.items():
        state.orders.set(order_id, order)
    state.last_intent_id.set(snapshot.last_intent_id)
    state.undo.settle()
    return state


async def unsent_rollouts(journal: Journal) -> frozenset[RolloutId]:
    """Return the rollouts with unsent facts. Raises: the errors of `Journal.unsent`."""
    found: set[RolloutId] = set()
    while rows := await journal.unsent(1, found):
        found.add(rows[0].rollout_id)
    return frozenset(found)
