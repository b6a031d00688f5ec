"""What a line of the log is, in one name, and how much it matters. Both sides use the names; no other text has them.

The control plane gives each line its type (`nixfleet_control_plane.history.line_types`). Readers of the feed choose
lines by type and severity, and a notification's type is made from it. Names may be added, none changes.
Source: docs/spec/notifications.md, Types.
"""

from typing import Final

from nixfleet_proto.checked import WordEnum
from nixfleet_proto.frozen_map import FrozenMap


class Severity(WordEnum):
    """How much a line matters, the least first. ACT: a person must act, or something stays as it is."""

    ROUTINE = "routine"
    NOTICE = "notice"
    WARNING = "warning"
    ACT = "act"

    @property
    def rank(self) -> int:
        """Its place in the order, from 0."""
        return tuple(Severity).index(self)


class LineType(WordEnum):
    """What a line of the log is."""

    HOST_ACKNOWLEDGED = "host.acknowledged"
    HOST_SWITCHING = "host.switching"
    HOST_SWITCHED = "host.switched"
    HOST_SWITCH_FAILED = "host.switch-failed"
    HOST_SWITCH_DEFERRED = "host.switch-deferred"
    HOST_PROBES_DECLARED = "host.probes-declared"
    HOST_PROBE_PASSED = "host.probe-passed"
    HOST_PROBE_FAILED = "host.probe-failed"
    HOST_FAILED = "host.failed"
    HOST_ROLLED_BACK = "host.rolled-back"
    HOST_ROLLBACK_FAILED = "host.rollback-failed"
    HOST_CONVERGED = "host.converged"
    HOST_REGRESSED = "host.regressed"
    HOST_RECALLED = "host.recalled"
    HOST_POSTPONED = "host.postponed"
    HOST_DRIFTED = "host.drifted"
    HOST_DRIFT_ENDED = "host.drift-ended"
    HOST_DISPATCHED = "host.dispatched"
    HOST_DISPATCH_WITHDRAWN = "host.dispatch-withdrawn"
    HOST_DEFERRED = "host.deferred"
    HOST_FACT_REFUSED = "host.fact-refused"
    HOST_FORKED = "host.forked"
    HOST_ENROLLED = "host.enrolled"
    ROLLOUT_OPENED = "rollout.opened"
    ROLLOUT_MOVED = "rollout.moved"
    ROLLOUT_HALTED = "rollout.halted"
    ROLLOUT_CLEARED = "rollout.cleared"
    ROLLOUT_ABORTED = "rollout.aborted"
    ROLLOUT_COMPLETE = "rollout.complete"
    ROLLOUT_SUPERSEDED = "rollout.superseded"
    ROLLOUT_PRUNED = "rollout.pruned"
    ROLLOUT_AMENDED = "rollout.amended"
    ROLLOUT_HOSTS_LAPSED = "rollout.hosts-lapsed"
    ROLLOUT_STANDINGS_CHANGED = "rollout.standings-changed"
    ROLLOUT_RETRY_ORDERED = "rollout.retry-ordered"
    WAVE_BEGAN = "wave.began"
    WAVE_GUARDS_ASKED = "wave.guards-asked"
    WAVE_APPROVAL_NEEDED = "wave.approval-needed"
    WAVE_VERDICT = "wave.verdict"
    BUDGET_RETURNED = "budget.returned"
    CHANNEL_SEEN = "channel.seen"
    HOLD_BEGAN = "hold.began"
    HOLD_ENDED = "hold.ended"
    OPERATOR_COMMANDED = "operator.commanded"
    ARTEFACT_ACCEPTED = "artefact.accepted"
    ARTEFACT_REFUSED = "artefact.refused"
    LOG_DAMAGED = "log.damaged"

    @property
    def severity(self) -> Severity:
        """How much a line of this type matters."""
        return _SEVERITIES.get(self, Severity.ROUTINE)


_SEVERITIES: Final = FrozenMap(
    {
        LineType.HOST_ROLLBACK_FAILED: Severity.ACT,
        LineType.HOST_FORKED: Severity.ACT,
        LineType.ROLLOUT_HALTED: Severity.ACT,
        LineType.WAVE_APPROVAL_NEEDED: Severity.ACT,
        LineType.ARTEFACT_REFUSED: Severity.ACT,
        LineType.LOG_DAMAGED: Severity.ACT,
        LineType.HOST_SWITCH_FAILED: Severity.WARNING,
        LineType.HOST_FAILED: Severity.WARNING,
        LineType.HOST_ROLLED_BACK: Severity.WARNING,
        LineType.HOST_REGRESSED: Severity.WARNING,
        LineType.HOST_DRIFTED: Severity.WARNING,
        LineType.HOST_FACT_REFUSED: Severity.WARNING,
        LineType.ROLLOUT_HOSTS_LAPSED: Severity.WARNING,
        LineType.HOST_ENROLLED: Severity.NOTICE,
        LineType.HOST_DRIFT_ENDED: Severity.NOTICE,
        LineType.HOST_RECALLED: Severity.NOTICE,
        LineType.ROLLOUT_OPENED: Severity.NOTICE,
        LineType.ROLLOUT_CLEARED: Severity.NOTICE,
        LineType.ROLLOUT_ABORTED: Severity.NOTICE,
        LineType.ROLLOUT_COMPLETE: Severity.NOTICE,
        LineType.ROLLOUT_SUPERSEDED: Severity.NOTICE,
        LineType.ROLLOUT_AMENDED: Severity.NOTICE,
        LineType.ROLLOUT_STANDINGS_CHANGED: Severity.NOTICE,
        LineType.ROLLOUT_RETRY_ORDERED: Severity.NOTICE,
        LineType.WAVE_BEGAN: Severity.NOTICE,
        LineType.WAVE_GUARDS_ASKED: Severity.NOTICE,
        LineType.WAVE_VERDICT: Severity.NOTICE,
        LineType.HOLD_BEGAN: Severity.NOTICE,
        LineType.HOLD_ENDED: Severity.NOTICE,
        LineType.OPERATOR_COMMANDED: Severity.NOTICE,
        LineType.ARTEFACT_ACCEPTED: Severity.NOTICE,
    }
)
"""All others are routine."""
