"""Answers of a control plane, for tests of `nixfleet watch`: built here, so that a test says only what it is about."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.trust import OperatorRole
from nixfleet_runtime.http.listings import ListedRow
from nixfleet_runtime.http.overview import (
    Asker,
    Course,
    FleetCounts,
    Need,
    NeedKind,
    Overview,
    OverviewWave,
    RolloutOverview,
)
from nixfleet_state_machine.planner.rollout_status import WaveState
from nixfleet_state_machine.rollout.state import RolloutState

NOW = datetime(2026, 5, 16, 14, 5, tzinfo=UTC)


def overview(*rollouts: RolloutOverview, head: int = 7, needs: tuple[Need, ...] = ()) -> Overview:
    """An overview at row `head`."""
    you = Asker("ada", OperatorRole.OPERATE)
    return Overview(head, NOW, you, FleetCounts(4, 0, 0, 0), needs, rollouts)


def rollout(
    course: Course = Course.GOING_WELL, name: str = "stable@r2", **other: Any
) -> RolloutOverview:
    """A rollout of four hosts, of which two have converged."""
    rollout_id = RolloutId(name)
    given: dict[str, Any] = {
        "rollout_id": rollout_id,
        "channel": rollout_id.channel,
        "channel_ref": rollout_id.channel_ref,
        "headline": f"{name} is {course}: 2 of 4 hosts have converged, none failed.",
        "course": course,
        "state": RolloutState.ACTIVE,
        "is_in_force": True,
        "opened_at": NOW.replace(hour=12),
        "percent": 50,
        "hosts": 4,
        "total": 4,
        "converged": 2,
        "failed": 0,
        "waiting": 1,
        "more_waiting": 0,
        "current_wave": 1,
        "closures": 1,
        "states": FrozenMap({"Converged": 2, "Soaking": 1, "Pending": 1}),
        "standings": FrozenMap[str, int]({}),
        "waves": (
            wave(0, {"Converged": 2}),
            wave(1, {"Soaking": 1, "Pending": 1}, is_current=True),
        ),
        "needs_you": (),
        "waits": (),
        "next": (),
    }
    return RolloutOverview(**given | other)


def wave(number: int, states: Mapping[str, int], *, is_current: bool = False) -> OverviewWave:
    """A wave with these hosts by state."""
    total, converged = sum(states.values()), states.get("Converged", 0)
    return OverviewWave(
        wave=number,
        text="now" if is_current else "done",
        verdict=WaveState.GOING if is_current else WaveState.DONE,
        is_current=is_current,
        hosts=total,
        total=total,
        percent=converged * 100 // total,
        states=FrozenMap(dict(states)),
        standings=FrozenMap[str, int]({}),
        converged=converged,
        failed=states.get("Failed", 0),
        allowed=0,
        absent=0,
        soak_seconds=60,
    )


def need(text: str = "stable@r2 is halted.", command: str | None = "clear stable@r2") -> Need:
    """Something that only a person moves."""
    return Need(NeedKind.HALTED, text, "Clear it.", command=command)


def line(seq: int, text: str = "has converged", rollout_id: str = "stable@r2") -> ListedRow:
    """A line of the log."""
    return ListedRow(
        seq,
        NOW,
        "agent_events",
        FrozenMap({}),
        rollout_id=rollout_id,
        actor="web-01",
        text=text,
        severity="notice",
    )
