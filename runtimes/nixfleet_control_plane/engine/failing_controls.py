"""Which failing controls of a host are outstanding. Pure.

Outstanding: the latest result of that (host, probe, control) in the rollout is a Fail with mode enforce.
A probe that reports controls is judged by them; one that does not counts as one control without a name,
which is over once the probe runs and reports its controls.
Source: docs/spec/planner.md, Outstanding failures.
"""

from collections.abc import Iterator
from typing import NamedTuple

from nixfleet_proto.agent_event import ProbeMode, ProbeResult, ProbeStatus


class Control(NamedTuple):
    """One thing that a probe checks; `control_id` is `None` for a probe that checks one thing."""

    probe_name: str
    control_id: str | None
    framework: str | None


class ControlResult(NamedTuple):
    """Whether a control holds the waves that come after, by its latest result."""

    control: Control
    is_failing_enforce: bool


def control_results(fact: ProbeResult) -> Iterator[ControlResult]:
    """Yield what `fact` says about each control of its probe."""
    if not fact.sub_results:
        control = Control(fact.probe_name, None, None)
        yield ControlResult(control, _gates(fact.status, fact.mode))
        return
    yield ControlResult(Control(fact.probe_name, None, None), False)
    for sub in fact.sub_results:
        control = Control(fact.probe_name, sub.control_id, sub.framework)
        enforced = fact.mode if sub.effective_mode is ProbeMode.ENFORCE else sub.effective_mode
        yield ControlResult(control, _gates(sub.status, enforced))


def _gates(status: ProbeStatus, mode: ProbeMode) -> bool:
    return status is ProbeStatus.FAIL and mode is ProbeMode.ENFORCE
