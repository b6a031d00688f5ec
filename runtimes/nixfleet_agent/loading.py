"""An agent's state out of its journal. Source: design 7, Agent, Boot."""

from nixfleet_agent.journal import Journal
from nixfleet_agent.state import State


def load_state(journal: Journal, hostname: str) -> State:
    """Return the state as of the last commit. Raises: what `Journal.load` raises."""
    snapshot = journal.load()
    state = State(hostname)
    for rollout in snapshot.rollouts:
        state.rollouts.set(rollout.record.rollout_id, rollout)
    for intent in snapshot.intents:
        state.intents.set(intent.intent_id, intent)
    state.last_intent_id.set(snapshot.last_intent_id)
    state.undo.settle()
    return state
