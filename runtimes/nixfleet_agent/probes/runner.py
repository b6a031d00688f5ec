"""The port through which an agent runs its probes, and what one run comes to. No I/O here.

There is no "unknown": a probe that cannot run has failed, so running one never raises.
Source: docs/spec/declarations.md, Probe kinds.
"""

from typing import Protocol

from attrs import frozen

from nixfleet_proto.agent_event import ProbeStatus, ProbeSubResult
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX, HealthCheck


@frozen
class ProbeOutcome:
    """What one run of a probe found; `failure_reason` is there exactly when it failed."""

    status: ProbeStatus
    failure_reason: str | None = None
    sub_results: tuple[ProbeSubResult, ...] | None = None


class ProbeRunner(Protocol):
    """Runs probes of any kind. When and how often is its caller's business."""

    async def run(self, check: HealthCheck) -> ProbeOutcome:
        """Run `check` once, within the check's own time limit."""
        ...


PASSED = ProbeOutcome(ProbeStatus.PASS)


def failed(expected: str, found: str) -> ProbeOutcome:
    """Return a failure whose reason names what was expected and what was found, cut to length."""
    reason = f"expected {expected}, found {found}"
    return ProbeOutcome(ProbeStatus.FAIL, reason[:FAILURE_REASON_LENGTH_MAX])


def described(error: BaseException) -> str:
    """Return the system's own error behind `error`, if there is one: libraries wrap it in others.

    With several of them, as when a name has several addresses, all.
    """
    roots = _roots_of(error) or [error]
    return "; ".join(": ".join(filter(None, (type(root).__name__, str(root)))) for root in roots)


def _roots_of(error: BaseException | None) -> list[BaseException]:
    if error is None:
        return []
    if isinstance(error, BaseExceptionGroup):
        return [root for each in error.exceptions for root in _roots_of(each) or [each]]
    below = _roots_of(error.__cause__ or error.__context__)
    return below or ([error] if isinstance(error, OSError) else [])
