"""Which failing controls of a host are outstanding. Pure.

Outstanding: the latest result of this host, probe and control in the rollout is Fail with mode enforce. A probe that
reports controls is judged by them. A probe that reports none counts as one unnamed control, whose failure ends when
the probe next reports controls.
Source: docs/spec/planner.md, Outstanding failures.
"""

from collections.abc import Iterator
from typing import NamedTuple

from nixfleet_proto.agent_event import ProbeMode, ProbeResult, ProbeStatus


class Control(NamedTuple):
    """One check of a probe; `control_id` is `None` for a probe that reports no controls."""

    probe_name: str
    control_id: str | None
    framework: str | None


class ControlResult(NamedTuple):
    """Whether the latest result of a control holds later waves."""

    control: Control
    is_failing_enforce: bool


def control_results(fact: ProbeResult) -> Iterator[ControlResult]:
    """Yield the result of each control in `fact`."""
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
