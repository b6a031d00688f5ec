"""The production parts a simulation is built from. Tests put others in their places; nothing else does."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from attrs import frozen

from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.options import Options
from nixfleet_agent.engine.state import State as AgentState
from nixfleet_agent.journal.journal import SqliteJournal
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_notify.delivery.engine import HookEngine
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_simulation.nodes.memory_journal import MemoryJournal


def _agent_engine(state: AgentState, failure_threshold: timedelta) -> AgentEngine:
    return AgentEngine(state, Options(failure_threshold=failure_threshold))


def _control_plane_engine(state: State) -> ControlPlaneEngine:
    return ControlPlaneEngine(state, zones=SystemZones())


@frozen
class Parts:
    """How each part is made."""

    control_plane_engine: Callable[[State], ControlPlaneEngine] = _control_plane_engine
    load_control_plane: Callable[[SqliteStore], State] = load_state
    open_store: Callable[[Path], SqliteStore] = SqliteStore
    agent_engine: Callable[[AgentState, timedelta], AgentEngine] = _agent_engine
    open_journal: Callable[[Path], SqliteJournal] = SqliteJournal
    hook_engine: Callable[..., HookEngine] = HookEngine
    memory_journal: Callable[[], MemoryJournal] = MemoryJournal


PRODUCTION = Parts()
