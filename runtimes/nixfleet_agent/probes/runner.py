"""The port for running probes, and the outcome of a run. No I/O.

There is no "unknown": a probe that cannot run has failed, so running one never raises.
Source: docs/spec/declarations.md, Probe kinds.
"""

from typing import Protocol

from attrs import frozen

from nixfleet_proto.agent_event import ProbeStatus, ProbeSubResult
from nixfleet_proto.codec.limits import LENGTHS_MAX, TEXT_LENGTH_MAX, is_within_limits
from nixfleet_proto.health_check import FAILURE_REASON_LENGTH_MAX, HealthCheck
from nixfleet_runtime.kernel.redacted import redacted


@frozen
class ProbeOutcome:
    """The outcome of one run of a probe; `failure_reason` is set exactly when it failed."""

    status: ProbeStatus
    failure_reason: str | None = None
    sub_results: tuple[ProbeSubResult, ...] | None = None


class ProbeRunner(Protocol):
    """Runs probes of any kind. The caller decides when and how often."""

    async def run(self, check: HealthCheck) -> ProbeOutcome:
        """Run `check` once, within the check's own time limit."""
        ...


PASSED = ProbeOutcome(ProbeStatus.PASS)


def failed(expected: str, found: str) -> ProbeOutcome:
    """Return a failure whose reason is "expected …, found …", without secrets, truncated to the maximum length."""
    reason = redacted(f"expected {expected}, found {found}")
    return ProbeOutcome(ProbeStatus.FAIL, reason[:FAILURE_REASON_LENGTH_MAX])


def reportable(outcome: ProbeOutcome) -> ProbeOutcome:
    """Return `outcome`, or a failure in place of one that is too long for the control plane to take."""
    sub_results = outcome.sub_results or ()
    if len(sub_results) > LENGTHS_MAX["sub_results"]:
        return failed(f"at most {LENGTHS_MAX['sub_results']} controls", f"{len(sub_results)}")
    long = next((each for each in sub_results if not is_within_limits(each)), None)
    if long is not None:
        expected = f"texts of at most {TEXT_LENGTH_MAX} characters"
        return failed(expected, f"longer ones for control {long.control_id[:100]}")
    return outcome


def described(error: BaseException) -> str:
    """Return the text of the system error that `error` wraps, or of `error` itself.

    All of them when there are several, as for a name with several addresses.
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
