"""What a control plane keeps in memory of releases that are over: a name each, and nothing that grows with hosts."""

import gc
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final

import pytest

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.state import State
from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventRefused
from nixfleet_state_machine.undo import UndoableDict
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

HOSTS = ("web-01", "web-02")
LAYOUT = Layout(waves=(HOSTS,), edges=())
RETENTION_MINUTES = 72 * 60
RELEASES = 300
_OF_THE_PROGRAM: Final = (type, ModuleType, FunctionType)


def _release(control_plane: ScriptedControlPlane, number: int) -> None:
    """Release, let all hosts converge, and let the time pass after which an earlier release is pruned."""
    rollout_id = control_plane.publish(f"r{number}")
    for hostname in HOSTS:
        host = ScriptedHost(control_plane, RolloutId(rollout_id), hostname)
        host.finish()
        refused = host.tell(partial(DispatchAck, "release-0", host.now))
        assert isinstance(refused.stopped_by, EventRefused)
    control_plane.wait(minutes=RETENTION_MINUTES)
    control_plane.tick()


def _sizes(owner: object, path: str = "", depth: int = 3) -> dict[str, int]:
    """Return the number of entries of each container of the state, by its name."""
    sizes: dict[str, int] = {}
    for name, value in vars(owner).items():
        where = f"{path}.{name}"
        if isinstance(value, UndoableDict | dict | set | tuple | list):
            sizes[where] = len(value)
        elif depth and type(value).__module__.startswith("nixfleet") and hasattr(value, "__dict__"):
            sizes |= _sizes(value, where, depth - 1)
    return sizes


def _grown(state: State, before: dict[str, int]) -> dict[str, tuple[int, int]]:
    now = _sizes(state)
    return {name: (before[name], now[name]) for name in before if now[name] > before[name]}


def _reachable(engine: ControlPlaneEngine) -> Counter[str]:
    """Return how many objects the engine keeps alive, however deep they lie, by their kind."""
    found: dict[int, object] = {}
    left: list[object] = [engine]
    while left:
        each = left.pop()
        if id(each) not in found and not isinstance(each, _OF_THE_PROGRAM):
            found[id(each)] = each
            left += gc.get_referents(each)
    return Counter(type(each).__name__ for each in found.values())


@pytest.fixture
def control_plane(scratch: Path) -> ScriptedControlPlane:
    return ScriptedControlPlane(scratch, LAYOUT)


def test_three_hundred_releases_cost_no_more_than_three_but_for_their_names(
    control_plane: ScriptedControlPlane,
) -> None:
    """Of each that is pruned the id is kept, since it must not open again; counts of everything else stay.

    So it is for a control plane that runs, and for one that was started again.
    """
    with closing(control_plane):
        for number in range(3):
            _release(control_plane, number)
        before = _sizes(control_plane.state), _reachable(control_plane.engine)
        for number in range(3, RELEASES):
            _release(control_plane, number)
        after = _reachable(control_plane.engine)
        assert len(before[0]) > 30
        assert _grown(control_plane.state, before[0]) == {".pruned": (3, RELEASES)}
        control_plane.restart_control_plane()
        assert _grown(control_plane.state, before[0]) == {".pruned": (3, RELEASES)}
    more = RELEASES - 3
    assert after - before[1] == Counter({"RolloutId": more})
