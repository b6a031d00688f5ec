"""What this agent does not act on now, and why, for its heartbeats. Data that the workers share; no decisions."""

from collections.abc import Callable
from datetime import datetime

from nixfleet_runtime.http.bodies import REASON_LENGTH_MAX, REFUSALS_MAX, ROLLOUT_ID_LENGTH_MAX
from nixfleet_runtime.transport import ActingRefusal


class Refusals:
    """The dispatches, requests, warrants and rollbacks that are refused now, and the closure that is awaited.

    now: the agent's clock.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._dispatches: dict[str, ActingRefusal] = {}
        self._records: dict[str, ActingRefusal] = {}
        self._awaited: dict[str, ActingRefusal] = {}
        self._warrants: dict[str, ActingRefusal] = {}
        self._rollbacks: dict[str, ActingRefusal] = {}

    def dispatch_refused(self, rollout_id: str, reason: str) -> None:
        """Note that the dispatch that waits is refused; no other one waits."""
        self._dispatches = {rollout_id: self._refusal(self._dispatches, rollout_id, reason)}

    def no_dispatch_refused(self) -> None:
        """Note that no dispatch is refused any more: one was taken, or none waits."""
        self._dispatches = {}

    def rollback_refused(self, rollout_id: str, reason: str | None) -> None:
        """Note that a rollback is due and refused; no `reason`: that it is not refused any more."""
        if reason is None:
            self._rollbacks.pop(rollout_id, None)
        else:
            self._rollbacks[rollout_id] = self._refusal(self._rollbacks, rollout_id, reason)

    def requests_refused(self, reasons: dict[str, str]) -> None:
        """Replace the reasons, by rollout, why the latest answer to a heartbeat is not obeyed."""
        self._records = {
            rollout_id: self._refusal(self._records, rollout_id, reason)
            for rollout_id, reason in reasons.items()
        }

    def warrants_refused(self, reasons: dict[str, str]) -> None:
        """Replace the reasons, by rollout, why the warrants of the latest answer to a heartbeat are not obeyed."""
        self._warrants = {
            rollout_id: self._refusal(self._warrants, rollout_id, reason)
            for rollout_id, reason in reasons.items()
        }

    def closure_awaited(self, rollout_id: str, reason: str) -> None:
        """Note that the switch of a rollout waits for its closure; no other one waits."""
        self._awaited = {rollout_id: self._refusal(self._awaited, rollout_id, reason)}

    def no_closure_awaited(self) -> None:
        """Note that no switch waits any more: the closure came, or is not wanted any more."""
        self._awaited = {}

    def current(self) -> tuple[ActingRefusal, ...]:
        """Return the refusals by rollout, of requests as many as a heartbeat has room for."""
        asked = {**self._records, **self._warrants}
        bounded = dict(sorted(asked.items())[: REFUSALS_MAX - 3])
        refused = {**self._awaited, **self._rollbacks, **bounded, **self._dispatches}
        return tuple(refusal for _, refusal in sorted(refused.items()))

    def _refusal(
        self, known: dict[str, ActingRefusal], rollout_id: str, reason: str
    ) -> ActingRefusal:
        since = known[rollout_id].since if rollout_id in known else self._now()
        # Both texts may be a control plane's, and its successor must be able to take the heartbeat.
        shown = reason[:REASON_LENGTH_MAX]
        return ActingRefusal(rollout_id[:ROLLOUT_ID_LENGTH_MAX], shown, since)
