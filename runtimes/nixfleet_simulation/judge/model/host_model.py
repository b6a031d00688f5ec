"""One host in one rollout, derived from the logged facts: a second implementation, as a table.

The production machine is a `match` per state; this is a lookup. It reads facts as the JSON that the log holds.
Source: docs/spec/host-machine.md, Transitions.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from attrs import Factory, define

from nixfleet_proto.errors import NixfleetError

Json: TypeAlias = Mapping[str, Any]
"""A parsed payload; its contents are checked, not trusted."""

MOVES: Final[Mapping[tuple[str, str], str]] = {
    ("Pending", "DispatchAck"): "Activating",
    ("Pending", "Postponed"): "Pending",
    ("Failed", "Postponed"): "Failed",
    ("Reverted", "Postponed"): "Reverted",
    ("Converged", "Postponed"): "Converged",
    ("Activating", "ActivationStarted"): "Activating",
    ("Activating", "ActivationCompleted"): "Soaking",
    ("Deferred", "ActivationCompleted"): "Soaking",
    ("Activating", "ActivationDeferred"): "Deferred",
    ("Activating", "ActivationFailed"): "Failed",
    ("Deferred", "ActivationFailed"): "Failed",
    ("Soaking", "ProbeTopologyDeclared"): "Soaking",
    ("Soaking", "ProbeObservedFirst"): "Soaking",
    ("Soaking", "ProbeResult"): "Soaking",
    ("Soaking", "ProbeFailureFirst"): "Soaking",
    ("Soaking", "Failed"): "Failed",
    ("Soaking", "Converged"): "Converged",
    ("Failed", "RollbackComplete"): "Reverted",
    ("Converged", "Regressed"): "Failed",
    ("Activating", "Recalled"): "Failed",
    ("Deferred", "Recalled"): "Failed",
    ("Soaking", "Recalled"): "Failed",
    ("Converged", "Recalled"): "Failed",
    ("Failed", "DispatchAck"): "Activating",
    ("Reverted", "DispatchAck"): "Activating",
    ("Converged", "DispatchAck"): "Activating",
}

ROLLBACK: Final = "rollback-and-halt"

Control: TypeAlias = tuple[str, str | None, str | None]
"""Probe, control, framework."""


class IllegalFact(NixfleetError):
    """The fact is not legal in the host's state."""


@define
class HostModel:
    """The state of a host. dispatched_at, soak_due_at, activated_at: text. failing: enforce controls that fail.

    enforced: whether each enforce probe passes.
    rolls_back, fails_at_deadline: whether the signed policy says so; the latter of a soak that does
    not end. has_failed: an attempt failed, and none has converged since.
    is_to_roll_back: the failure has a rollback. queued_since: when the dispatch in the queue was put there.
    """

    name: str
    target: str
    threshold_seconds: float
    rolls_back: bool
    fails_at_deadline: bool = False
    state: str = "Pending"
    last_seq: int = 0
    is_queued: bool = False
    dispatched_at: str | None = None
    soak_due_at: str | None = None
    activated_at: str | None = None
    has_declared: bool = False
    declared: tuple[str, ...] = ()
    enforced: dict[str, bool] = Factory(dict[str, bool])
    failing: set[Control] = Factory(set[Control])
    attempt: int = 1
    has_failed: bool = False
    is_to_roll_back: bool = False
    prior: str | None = None
    queued_since: datetime | None = None
    acknowledged_at: datetime | None = None
    deferred_at: datetime | None = None
    failed_at: datetime | None = None
    reverted_at: datetime | None = None
    left_target: bool = False

    def take(self, fact: Json) -> bool:
        """Take a fact; return whether the state changed. Raises: IllegalFact."""
        kind, seq = fact["kind"], fact["seq"]
        if seq != self.last_seq + 1:
            raise IllegalFact(f"fact {seq} follows fact {self.last_seq}")
        to = MOVES.get((self.state, kind))
        if to is None:
            raise IllegalFact(f"{kind} is not legal while {self.state}")
        if kind == "ProbeResult":
            self._probe_result(fact)
        elif kind == "Converged":
            self._require_convergence(fact)
        elif kind == "ProbeTopologyDeclared":
            self._declare(fact)
        elif kind == "Failed":
            self._require_sustained(fact)
            self._fail(fact["failedAt"], rolls_back=fact["policyApplied"] == ROLLBACK)
        elif kind == "Regressed":
            self._require_regression(fact)
            self._fail(fact["regressedAt"], rolls_back=fact["policyApplied"] == ROLLBACK)
        elif kind == "Recalled":
            self._fail(fact["recalledAt"], rolls_back=True)
        elif kind == "ActivationFailed":
            self._fail(fact["failedAt"], rolls_back=self.rolls_back)
        elif kind == "ActivationDeferred":
            self.deferred_at = _time(fact["deferredAt"])
        elif kind == "DispatchAck":
            self._acknowledge(fact)
        elif kind == "ActivationCompleted":
            self.activated_at = fact["completedAt"]
            self.has_declared = False
            self.declared = ()
            self.enforced.clear()
        elif kind == "RollbackComplete" and fact["exitCode"] != 0:
            to = "Failed"
        elif kind == "RollbackComplete":
            self.reverted_at = _time(fact["completedAt"])
            self.left_target = fact["revertedToClosure"] != self.target
        if kind == "Converged":
            self.has_failed = False
        before, self.state, self.last_seq = self.state, to, seq
        return before != to

    @property
    def is_rolling_back(self) -> bool:
        """Whether the failure has a rollback that has not worked."""
        return self.state == "Failed" and self.is_to_roll_back

    @property
    def counts_as_failed(self) -> bool:
        """Whether an attempt failed and none has succeeded since; one that waits for a reboot has so far."""
        return self.has_failed and self.state != "Deferred"

    @property
    def blames_target(self) -> bool:
        """Whether the host ran its target, failed on it and rolled back from it."""
        return self.state == "Reverted" and self.activated_at is not None and self.left_target

    @property
    def may_try_again(self) -> bool:
        """Whether the host can take an acknowledgement of another attempt."""
        return self.state in ("Failed", "Reverted", "Converged") and not self.is_rolling_back

    def needs_dispatch(self, attempt: int) -> bool:
        """Return whether the host has not acknowledged its attempt number `attempt`, the last one ordered."""
        if self.state == "Pending":
            return True
        return attempt > self.attempt and self.may_try_again

    def stage(self, attempt: int) -> tuple[str, datetime] | None:
        """Return the stage for which a deadline may run, and since when; attempt: the last one ordered."""
        if self.is_queued and self.needs_dispatch(attempt) and self.queued_since is not None:
            return "ack", self.queued_since
        since = {
            "Activating": ("activation", self.acknowledged_at),
            "Deferred": ("reboot", self.deferred_at),
            "Soaking": ("convergence", _maybe_time(self.activated_at)),
            "Failed": ("activation", self.failed_at if self.is_rolling_back else None),
        }
        name, at = since.get(self.state, ("", None))
        return None if at is None else (name, at)

    @property
    def is_eligible(self) -> bool:
        return self.state in ("Converged", "Deferred")

    @property
    def is_settled(self) -> bool:
        return self.state in ("Converged", "Deferred", "Soaking")

    @property
    def is_in_flight(self) -> bool:
        return self.state in ("Activating", "Soaking")

    @property
    def is_undeclared(self) -> bool:
        return self.state in ("Soaking", "Converged") and not self.has_declared

    def _fail(self, at: str, *, rolls_back: bool) -> None:
        self.has_failed = True
        self.failed_at = _time(at)
        self.is_to_roll_back = rolls_back and self.prior not in (None, self.target)

    def _acknowledge(self, fact: Json) -> None:
        """Note the acknowledgement; a first dispatch dated after it is not the one that the host followed."""
        received_at, attempt = fact["receivedAt"], fact.get("attempt") or 1
        is_first = self.state == "Pending"
        if attempt != (1 if is_first else self.attempt + 1) or self.is_rolling_back:
            raise IllegalFact(f"it acknowledges attempt {attempt} after {self.attempt}")
        self.prior = fact["currentClosureAtDispatch"]
        self.acknowledged_at = _time(received_at)
        self.attempt = attempt
        if not is_first:
            self._begin_anew()
        if self.dispatched_at is None or _time(self.dispatched_at) > _time(received_at):
            self.dispatched_at = self.soak_due_at = received_at

    def _begin_anew(self) -> None:
        """Forget what the next attempt does not know of."""
        self.activated_at = self.deferred_at = self.reverted_at = None
        self.has_declared = False
        self.declared = ()
        self.enforced.clear()

    def _declare(self, fact: Json) -> None:
        self.has_declared = True
        self.declared = tuple(
            each["probeName"] for each in fact["probes"] if each["mode"] == "enforce"
        )

    def _probe_result(self, fact: Json) -> None:
        name, mode = fact["probeName"], fact["mode"]
        if mode == "enforce":
            self.enforced[name] = fact["status"] == "pass"
        else:
            self.enforced.pop(name, None)
        controls = fact.get("subResults") or ()
        whole: Control = (name, None, None)
        self._note(whole, not controls and mode == "enforce" and fact["status"] == "fail")
        for each in controls:
            is_enforced = mode == "enforce" and each.get("effectiveMode", "enforce") == "enforce"
            control = (name, each["controlId"], each["framework"])
            self._note(control, is_enforced and each["status"] == "fail")

    def _note(self, control: Control, is_failing: bool) -> None:
        if is_failing:
            self.failing.add(control)
        else:
            self.failing.discard(control)

    def _require_sustained(self, fact: Json) -> None:
        """Check what facts can show. How long a probe failed is judged at the host, whose clock may be set back."""
        lasted = fact["sustainedDurationSecs"]
        if self.fails_at_deadline and lasted == 0:
            return
        for name in fact["failingProbes"]:
            if self.enforced.get(name, True):
                raise IllegalFact(f"it Failed for {name}, which passes")
        if not fact["failingProbes"] or lasted < self.threshold_seconds:
            raise IllegalFact(f"it Failed after {lasted} s, for {fact['failingProbes']}")

    def _require_regression(self, fact: Json) -> None:
        """What probes find after the convergence is in no fact: only what the regression itself says can be held."""
        lasted, names = fact["sustainedDurationSecs"], fact["failingProbes"]
        unknown = sorted(set(names) - self.enforced.keys())
        if not names or unknown:
            raise IllegalFact(f"it Regressed for {names}, of which it never enforced {unknown}")
        if lasted < self.threshold_seconds:
            raise IllegalFact(f"it Regressed after {lasted} s")

    def _require_convergence(self, fact: Json) -> None:
        if fact["currentClosure"] != self.target:
            raise IllegalFact(f"it converged on {fact['currentClosure']}, not on {self.target}")
        due = self.soak_due_at
        converged_at = _time(fact["convergedAt"])
        if due is not None and converged_at < _time(due):
            raise IllegalFact(f"it converged at {fact['convergedAt']}, before {due}")
        if due is not None and self.dispatched_at is not None and self.activated_at is not None:
            soaked, window = (
                converged_at - _time(self.activated_at),
                _time(due) - _time(self.dispatched_at),
            )
            if soaked < window:
                raise IllegalFact(
                    f"it converged {soaked} after its activation, with a soak of {window}"
                )
        failing = sorted(name for name, passes in self.enforced.items() if not passes)
        if failing:
            raise IllegalFact(f"it converged while {', '.join(failing)} failed")
        silent = sorted(set(self.declared) - self.enforced.keys())
        if silent:
            raise IllegalFact(f"it converged before {', '.join(silent)} reported")


def _maybe_time(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
