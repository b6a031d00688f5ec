/** Made from docs/reference/openapi.json by tools/ui/api_types.py: not edited by hand. */

export interface EnrollRequest {
  readonly "token": SignedToken;
  readonly "publicKey": string;
}

export interface SignedToken {
  readonly "token": BootstrapToken;
  readonly "signature": string;
}

export interface BootstrapToken {
  readonly "hostname": string;
  readonly "expectedPubkeyFingerprint": string;
  readonly "issuedAt": string;
  readonly "expiresAt": string;
  readonly "nonce": string;
}

export interface AgentEventEnvelope {
  readonly "hostname": string;
  readonly "rolloutId": string;
  readonly "event": DispatchAck | ActivationStarted | ActivationCompleted | ActivationFailed | ActivationDeferred | ProbeTopologyDeclared | ProbeObservedFirst | ProbeResult | ProbeFailureFirst | Failed | RollbackComplete | Converged | Regressed | Recalled | Postponed;
  readonly "signature"?: string;
}

export interface DispatchAck {
  readonly "kind": "DispatchAck";
  readonly "currentClosureAtDispatch": string;
  readonly "receivedAt": string;
  readonly "seq": number;
  readonly "attempt"?: number;
}

export interface ActivationStarted {
  readonly "kind": "ActivationStarted";
  readonly "startedAt": string;
  readonly "switchMethod": string;
  readonly "seq": number;
}

export interface ActivationCompleted {
  readonly "kind": "ActivationCompleted";
  readonly "observedCurrentClosure": string;
  readonly "exitCode": number;
  readonly "completedAt": string;
  readonly "seq": number;
  readonly "failedUnits"?: readonly (string)[];
}

export interface ActivationFailed {
  readonly "kind": "ActivationFailed";
  readonly "exitCode": number;
  readonly "stderrTail": string;
  readonly "failedAt": string;
  readonly "seq": number;
}

export interface ActivationDeferred {
  readonly "kind": "ActivationDeferred";
  readonly "component": string;
  readonly "deferredAt": string;
  readonly "seq": number;
}

export interface ProbeTopologyDeclared {
  readonly "kind": "ProbeTopologyDeclared";
  readonly "probes": readonly (ProbeTopologyEntry)[];
  readonly "declaredAt": string;
  readonly "seq": number;
}

export interface ProbeTopologyEntry {
  readonly "probeName": string;
  readonly "kind": string;
  readonly "mode": "enforce" | "observe" | "disabled";
}

export interface ProbeObservedFirst {
  readonly "kind": "ProbeObservedFirst";
  readonly "probeName": string;
  readonly "mode": "enforce" | "observe" | "disabled";
  readonly "observedAt": string;
  readonly "seq": number;
}

export interface ProbeResult {
  readonly "kind": "ProbeResult";
  readonly "probeName": string;
  readonly "mode": "enforce" | "observe" | "disabled";
  readonly "status": "pass" | "fail";
  readonly "observedAt": string;
  readonly "failureReason"?: string;
  readonly "subResults"?: readonly (ProbeSubResult)[];
  readonly "seq": number;
}

export interface ProbeSubResult {
  readonly "controlId": string;
  readonly "status": "pass" | "fail";
  readonly "framework": string;
  readonly "article"?: string;
  readonly "effectiveMode"?: "enforce" | "observe" | "disabled";
  readonly "overrideReason"?: string;
}

export interface ProbeFailureFirst {
  readonly "kind": "ProbeFailureFirst";
  readonly "probeName": string;
  readonly "mode": "enforce" | "observe" | "disabled";
  readonly "firstFailedAt": string;
  readonly "seq": number;
}

export interface Failed {
  readonly "kind": "Failed";
  readonly "failedAt": string;
  readonly "sustainedDurationSecs": number;
  readonly "failingProbes": readonly (string)[];
  readonly "policyApplied": "halt" | "rollback-and-halt";
  readonly "seq": number;
}

export interface RollbackComplete {
  readonly "kind": "RollbackComplete";
  readonly "revertedToClosure": string;
  readonly "exitCode": number;
  readonly "completedAt": string;
  readonly "seq": number;
  readonly "failureReason"?: string;
}

export interface Converged {
  readonly "kind": "Converged";
  readonly "convergedAt": string;
  readonly "currentClosure": string;
  readonly "seq": number;
}

export interface Regressed {
  readonly "kind": "Regressed";
  readonly "regressedAt": string;
  readonly "sustainedDurationSecs": number;
  readonly "failingProbes": readonly (string)[];
  readonly "policyApplied": "halt" | "rollback-and-halt";
  readonly "seq": number;
}

export interface Recalled {
  readonly "kind": "Recalled";
  readonly "orderId": string;
  readonly "recalledAt": string;
  readonly "seq": number;
}

export interface Postponed {
  readonly "kind": "Postponed";
  readonly "postponedAt": string;
  readonly "reason": string;
  readonly "until": string;
  readonly "seq": number;
}

export interface EventBatch {
  readonly "events": readonly (AgentEventEnvelope)[];
  readonly "signature"?: string;
}

export interface Dispatch {
  readonly "hostname": string;
  readonly "rollout_id": string;
  readonly "target_closure": string;
  readonly "soak_due_at": string;
  readonly "enqueued_at": string;
  readonly "attempt"?: number;
}

export interface HeartbeatReply {
  readonly "received_at": string;
  readonly "bootstrap_rollouts"?: readonly (HostRolloutState)[];
  readonly "replay_from"?: readonly (ReplayFrom)[];
  readonly "release"?: ReleaseInForce;
  readonly "resting"?: readonly (string)[];
  readonly "warrants"?: readonly (SignedWarrant)[];
}

export interface HostRolloutState {
  readonly "rollout_id": string;
  readonly "hostname": string;
  readonly "channel": string;
  readonly "state": "Pending" | "Activating" | "Deferred" | "Soaking" | "Converged" | "Failed" | "Reverted";
  readonly "target_closure": string;
  readonly "current_closure_at_dispatch"?: string;
  readonly "current_closure"?: string;
  readonly "reverted_to"?: string;
  readonly "dispatched_at"?: string;
  readonly "dispatch_acked_at"?: string;
  readonly "activation_started_at"?: string;
  readonly "activation_completed_at"?: string;
  readonly "activation_failed_at"?: string;
  readonly "probe_observed_first_at"?: string;
  readonly "probe_failure_first_at"?: string;
  readonly "soak_due_at"?: string;
  readonly "converged_at"?: string;
  readonly "failed_at"?: string;
  readonly "policy_applied"?: "halt" | "rollback-and-halt";
  readonly "reverted_at"?: string;
  readonly "probes"?: Readonly<Record<string, ProbeRecord>>;
  readonly "last_event_seq"?: number;
  readonly "declared_probes"?: readonly (ProbeTopologyEntry_snake)[];
  readonly "attempt"?: number;
  readonly "deferred_at"?: string;
}

export interface ProbeRecord {
  readonly "status": "pass" | "fail";
  readonly "mode": "enforce" | "observe" | "disabled";
  readonly "last_observed_at": string;
  readonly "last_pass_at"?: string;
  readonly "failure_reason"?: string;
  readonly "failing_since"?: string;
}

export interface ProbeTopologyEntry_snake {
  readonly "probe_name": string;
  readonly "kind": string;
  readonly "mode": "enforce" | "observe" | "disabled";
}

export interface ReplayFrom {
  readonly "rollout_id": string;
  readonly "first_missing_seq": number;
}

export interface ReleaseInForce {
  readonly "rollout_id": string;
  readonly "signed_at": string;
}

export interface SignedWarrant {
  readonly "warrant": Warrant;
  readonly "signature": string;
}

export interface Warrant {
  readonly "order_id": string;
  readonly "rollout_id": string;
  readonly "rule": "prior" | "target";
  readonly "operator": string;
  readonly "reason": string;
  readonly "issued_at": string;
  readonly "expires_at": string;
  readonly "hosts"?: readonly (string)[];
  readonly "kind"?: string;
}

export interface Heartbeat {
  readonly "hostname": string;
  readonly "currentClosure": string;
  readonly "lastSeqs": Readonly<Record<string, number>>;
  readonly "refusals"?: readonly (ActingRefusal)[];
}

export interface ActingRefusal {
  readonly "rolloutId": string;
  readonly "reason": string;
  readonly "since": string;
}

export interface RolloutPage {
  readonly "rollouts": readonly (ListedRollout)[];
  readonly "next"?: string;
}

export interface ListedRollout {
  readonly "rolloutId": string;
  readonly "channel": string;
  readonly "state": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "currentWave": number;
  readonly "openedAt": string;
  readonly "excusedHosts": readonly (string)[];
  readonly "waves"?: readonly (WaveStatus)[];
  readonly "standings"?: Readonly<Record<string, number>>;
  readonly "beginsAt"?: string;
  readonly "budgets"?: readonly (BudgetStatus)[];
  readonly "guards"?: ListedGuards;
}

export interface WaveStatus {
  readonly "wave": number;
  readonly "total": number;
  readonly "converged": number;
  readonly "failed": number;
  readonly "allowed": number;
  readonly "absent": number;
  readonly "verdict": "waiting" | "going" | "halted" | "done" | "broken";
}

export interface BudgetStatus {
  readonly "budget": string;
  readonly "inFlight": number;
  readonly "limit": number;
  readonly "underWay"?: number;
  readonly "slots"?: number;
  readonly "convergeToGrow"?: number;
  readonly "begun"?: number;
  readonly "maxPerMinute"?: number;
  readonly "returnsAt"?: string;
}

export interface ListedGuards {
  readonly "wave": number;
  readonly "manifestHash": string;
  readonly "guards": readonly (ListedGuard)[];
  readonly "since"?: string;
}

export interface ListedGuard {
  readonly "name": string;
  readonly "state": "open" | "satisfied" | "waived" | "broken";
  readonly "text": string;
  readonly "isWaivable"?: boolean;
  readonly "until"?: string;
}

export interface LogPage {
  readonly "events": readonly (ListedRow)[];
  readonly "next"?: string;
}

export interface ListedRow {
  readonly "seq": number;
  readonly "ts": string;
  readonly "kind": string;
  readonly "payload": Readonly<Record<string, unknown>>;
  readonly "host"?: string;
  readonly "signature"?: string;
  readonly "rolloutId"?: string;
  readonly "actor"?: string;
  readonly "text"?: string;
  readonly "type"?: string;
  readonly "severity"?: string;
}

export interface HostPage {
  readonly "hosts": readonly (ListedHost)[];
  readonly "next"?: string;
}

export interface ListedHost {
  readonly "hostname": string;
  readonly "rolloutId": string;
  readonly "state": "Pending" | "Activating" | "Deferred" | "Soaking" | "Converged" | "Failed" | "Reverted";
  readonly "targetClosure": string;
  readonly "lastEventSeq": number;
  readonly "currentClosure"?: string;
  readonly "refusal"?: string;
  readonly "lastHeardAt"?: string;
  readonly "clockAheadSeconds"?: number;
  readonly "clockBehindSeconds"?: number;
  readonly "standing"?: "counted" | "excused" | "skipped" | "away" | "lapsed" | "late" | "left";
  readonly "attempt"?: number;
  readonly "driftedTo"?: string;
}

export interface DeferralPage {
  readonly "deferrals": readonly (ListedDeferral)[];
  readonly "next"?: string;
}

export interface ListedDeferral {
  readonly "hostname": string;
  readonly "rolloutId": string;
  readonly "gate": "quarantine" | "rollout-halted" | "operator-hold" | "channel-edges" | "wave-promotion" | "wave-promotion-host-unstaged" | "host-edge" | "disruption-budget" | "compliance-wave" | "probe-topology";
  readonly "reason": string;
  readonly "since": string;
  readonly "until"?: string;
}

export interface ReleaseStanding {
  readonly "channels": readonly (ChannelInForce)[];
  readonly "refused": readonly (RefusedArtefact)[];
  readonly "problem"?: string;
  readonly "leftOut"?: readonly (string)[];
}

export interface ChannelInForce {
  readonly "channel": string;
  readonly "rolloutId": string;
  readonly "signedAt": string;
  readonly "staleAt": string;
}

export interface RefusedArtefact {
  readonly "name": string;
  readonly "reason": string;
  readonly "since": string;
}

export interface RefusedEnrollments {
  readonly "enrollments": readonly (RefusedEnrollment)[];
}

export interface RefusedEnrollment {
  readonly "hostname": string;
  readonly "fingerprint": string;
  readonly "kind": string;
  readonly "reason": string;
  readonly "lastAt": string;
  readonly "count": number;
}

export interface ReasonBody {
  readonly "reason": string;
}

export interface ClearanceBody {
  readonly "reason": string;
  readonly "excusedHosts"?: readonly (string)[];
}

export interface HostsBody {
  readonly "hosts": readonly (string)[];
  readonly "reason": string;
}

export interface RetryBody {
  readonly "reason": string;
  readonly "hosts"?: readonly (string)[];
}

export interface ApprovalTaken {
  readonly "note"?: string;
}

export interface SignedApproval {
  readonly "approval": Approval;
  readonly "signature": string;
}

export interface Approval {
  readonly "rolloutId": string;
  readonly "wave": number;
  readonly "manifestHash": string;
  readonly "operator": string;
  readonly "decision": "approve" | "deny" | "promote";
  readonly "reason": string;
  readonly "signedAt": string;
}

export interface SignedWarrant_camel {
  readonly "warrant": Warrant_camel;
  readonly "signature": string;
}

export interface Warrant_camel {
  readonly "orderId": string;
  readonly "rolloutId": string;
  readonly "rule": "prior" | "target";
  readonly "operator": string;
  readonly "reason": string;
  readonly "issuedAt": string;
  readonly "expiresAt": string;
  readonly "hosts"?: readonly (string)[];
  readonly "kind"?: string;
}

export interface HoldList {
  readonly "holds": readonly (ListedHold)[];
}

export interface ListedHold {
  readonly "scope": string;
  readonly "source": string;
  readonly "reason": string;
  readonly "since"?: string;
  readonly "until"?: string;
  readonly "text"?: string;
  readonly "answer"?: string;
  readonly "holder"?: string;
  readonly "isLiftable"?: boolean;
}

export interface WarrantList {
  readonly "warrants": readonly (ListedWarrant)[];
}

export interface ListedWarrant {
  readonly "orderId": string;
  readonly "rolloutId": string;
  readonly "rule": "prior" | "target";
  readonly "operator": string;
  readonly "reason": string;
  readonly "issuedAt": string;
  readonly "expiresAt": string;
  readonly "toGo": number;
  readonly "going": number;
  readonly "refusing": number;
  readonly "hosts"?: readonly (string)[];
}

export interface ShardList {
  readonly "shards": readonly (ListedShard)[];
}

export interface ListedShard {
  readonly "name": string;
  readonly "channels": readonly (string)[];
  readonly "head": number;
  readonly "queueLength": number;
}

export interface HoldBody {
  readonly "scope": string;
  readonly "reason": string;
  readonly "until"?: string;
}

export interface ReleaseBody {
  readonly "scope": string;
  readonly "reason": string;
  readonly "holder"?: string;
}

export interface RetirementBody {
  readonly "closure": string;
  readonly "reason": string;
}

export interface HostWhole {
  readonly "hostname": string;
  readonly "now": string;
  readonly "head": number;
  readonly "lines": readonly (string)[];
  readonly "explained": HostExplained;
  readonly "records": readonly (HostRecordPage)[];
}

export interface HostExplained {
  readonly "hostname": string;
  readonly "rollouts": readonly (ExplainedRollout)[];
  readonly "refusals"?: readonly (ActingRefusal)[];
  readonly "waitingEvents"?: readonly (WaitingEvent)[];
  readonly "lastHeardAt"?: string;
  readonly "clockAheadSeconds"?: number;
  readonly "clockBehindSeconds"?: number;
  readonly "channel"?: string;
  readonly "outside"?: "undeclared" | "host-disabled" | "channel-disabled" | "unreleased" | "unnamed" | "unopened" | "done" | "left" | "lost";
  readonly "left"?: readonly (LeftRollout)[];
  readonly "recalls"?: readonly (ListedRecall)[];
}

export interface ExplainedRollout {
  readonly "rolloutId": string;
  readonly "gates": readonly (HoldingGate)[];
  readonly "status"?: StatusInRollout;
}

export interface HoldingGate {
  readonly "gate": "quarantine" | "rollout-halted" | "operator-hold" | "channel-edges" | "wave-promotion" | "wave-promotion-host-unstaged" | "host-edge" | "disruption-budget" | "compliance-wave" | "probe-topology";
  readonly "reason": string;
  readonly "detail": string;
  readonly "until"?: string;
}

export interface StatusInRollout {
  readonly "rolloutState": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "state": "Pending" | "Activating" | "Deferred" | "Soaking" | "Converged" | "Failed" | "Reverted";
  readonly "standing": "counted" | "excused" | "skipped" | "away" | "lapsed" | "late" | "left";
  readonly "attempt": number;
  readonly "attempts": number;
  readonly "lastWave": number;
  readonly "waitsFor": "nothing" | "dispatch" | "gates" | "acknowledgement" | "activation" | "reboot" | "soak" | "rollback" | "back-off" | "contact";
  readonly "isOverdue"?: boolean;
  readonly "wave"?: number;
  readonly "since"?: string;
  readonly "deadline"?: StageDeadline;
  readonly "soakEndsAt"?: string;
  readonly "retryAt"?: string;
  readonly "until"?: string;
  readonly "drift"?: HostDrift;
  readonly "commands"?: readonly (string)[];
}

export interface StageDeadline {
  readonly "stage": "ack" | "activation" | "reboot" | "convergence";
  readonly "at": string;
  readonly "then": "wait" | "skip" | "fail";
}

export interface HostDrift {
  readonly "running": string;
  readonly "since": string;
  readonly "then": "report" | "restore";
}

export interface WaitingEvent {
  readonly "rolloutId": string;
  readonly "seq": number;
  readonly "reason": string;
}

export interface LeftRollout {
  readonly "rolloutId": string;
  readonly "since"?: string;
}

export interface ListedRecall {
  readonly "rolloutId": string;
  readonly "orderId": string;
  readonly "operator": string;
  readonly "reason": string;
  readonly "expiresAt": string;
  readonly "step": "waits" | "told" | "refuses" | "going" | "back" | "expired" | "stays";
  readonly "awaited"?: string;
}

export interface HostRecordPage {
  readonly "rolloutId": string;
  readonly "headline": string;
  readonly "state": "Pending" | "Activating" | "Deferred" | "Soaking" | "Converged" | "Failed" | "Reverted";
  readonly "standing": "counted" | "excused" | "skipped" | "away" | "lapsed" | "late" | "left";
  readonly "attempt": number;
  readonly "attempts": number;
  readonly "shouldRun": string;
  readonly "isDrifted": boolean;
  readonly "lastEventSeq": number;
  readonly "gates": readonly (ShownGate)[];
  readonly "moments": readonly (Moment)[];
  readonly "probes": readonly (ShownProbe)[];
  readonly "rows": readonly (ListedRow)[];
  readonly "wave"?: number;
  readonly "since"?: string;
  readonly "until"?: string;
  readonly "runs"?: string;
  readonly "ranBefore"?: string;
  readonly "revertedTo"?: string;
  readonly "failure"?: ShownFailure;
}

export interface ShownGate {
  readonly "gate": "quarantine" | "rollout-halted" | "operator-hold" | "channel-edges" | "wave-promotion" | "wave-promotion-host-unstaged" | "host-edge" | "disruption-budget" | "compliance-wave" | "probe-topology";
  readonly "reason": string;
  readonly "frees": string;
  readonly "detail"?: string;
  readonly "since"?: string;
  readonly "until"?: string;
}

export interface Moment {
  readonly "kind": "dispatched" | "acknowledged" | "switch-began" | "switched" | "switch-failed" | "deferred" | "first-probe" | "first-probe-failure" | "soak-ends" | "converged" | "failed" | "reverted";
  readonly "at": string;
}

export interface ShownProbe {
  readonly "name": string;
  readonly "kind"?: string;
  readonly "mode"?: "enforce" | "observe" | "disabled";
  readonly "status"?: "pass" | "fail";
  readonly "lastObservedAt"?: string;
  readonly "lastPassAt"?: string;
  readonly "failingSince"?: string;
  readonly "failureReason"?: string;
}

export interface ShownFailure {
  readonly "text": string;
  readonly "at"?: string;
  readonly "exitCode"?: number;
  readonly "stderrTail"?: string;
}

export interface HostMap {
  readonly "rolloutId": string;
  readonly "head": number;
  readonly "members": string;
  readonly "stateNames": readonly (string)[];
  readonly "standingNames": readonly (string)[];
  readonly "waves": readonly (MapWave)[];
  readonly "states": string;
  readonly "standings": string;
  readonly "names"?: readonly (string)[];
}

export interface MapWave {
  readonly "hosts": number;
  readonly "wave"?: number;
}

export interface QuarantinePage {
  readonly "quarantines": readonly (ListedQuarantine)[];
  readonly "next"?: string;
}

export interface ListedQuarantine {
  readonly "channel": string;
  readonly "closure": string;
  readonly "waiting": number;
  readonly "since"?: string;
  readonly "row"?: number;
}

export interface RefusalPage {
  readonly "refused": readonly (ListedRefusal)[];
  readonly "next"?: string;
}

export interface ListedRefusal {
  readonly "kind": "artefact" | "acting" | "event";
  readonly "reason": string;
  readonly "name"?: string;
  readonly "hostname"?: string;
  readonly "rolloutId"?: string;
  readonly "seq"?: number;
  readonly "since"?: string;
}

export interface EnrollmentPage {
  readonly "enrollments": readonly (ListedEnrollment)[];
  readonly "next"?: string;
}

export interface ListedEnrollment {
  readonly "hostname": string;
  readonly "standing": "declared" | "enrolled" | "revoked" | "awaited" | "knocking";
  readonly "fingerprint"?: string;
  readonly "since"?: string;
  readonly "until"?: string;
  readonly "reason"?: string;
  readonly "count"?: number;
  readonly "lastHeardAt"?: string;
}

export interface SilentPage {
  readonly "hosts": readonly (SilentHost)[];
  readonly "startedAt": string;
  readonly "next"?: string;
}

export interface SilentHost {
  readonly "hostname": string;
  readonly "since"?: string;
  readonly "rollouts"?: readonly (string)[];
}

export interface Overview {
  readonly "head": number;
  readonly "now": string;
  readonly "you": Asker;
  readonly "fleet": FleetCounts;
  readonly "needsYou": readonly (Need)[];
  readonly "rollouts": readonly (RolloutOverview)[];
  readonly "headAt"?: string;
  readonly "leader"?: ServedBy;
}

export interface Asker {
  readonly "name": string;
  readonly "role": "read" | "operate";
}

export interface FleetCounts {
  readonly "enrolled": number;
  readonly "silent": number;
  readonly "refusing": number;
  readonly "knocking": number;
  readonly "declared"?: number;
}

export interface Need {
  readonly "kind": "approval" | "halted" | "aborted" | "lost" | "quarantine" | "hold" | "lapsed" | "overdue" | "unstaged" | "drift" | "freshness" | "artefact" | "release-directory" | "left-out" | "enrollment" | "refusing";
  readonly "text": string;
  readonly "answer": string;
  readonly "since"?: string;
  readonly "until"?: string;
  readonly "role"?: "read" | "operate";
  readonly "who"?: readonly (string)[];
  readonly "command"?: string;
  readonly "rolloutId"?: string;
  readonly "channel"?: string;
  readonly "wave"?: number;
  readonly "hosts"?: number;
  readonly "subject"?: string;
  readonly "commands"?: readonly (string)[];
  readonly "holder"?: string;
}

export interface RolloutOverview {
  readonly "rolloutId": string;
  readonly "channel": string;
  readonly "channelRef": string;
  readonly "headline": string;
  readonly "course": "going well" | "has failures" | "held" | "halted" | "aborted" | "complete" | "superseded" | "lost";
  readonly "state": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "isInForce": boolean;
  readonly "openedAt": string;
  readonly "percent": number;
  readonly "hosts": number;
  readonly "total": number;
  readonly "converged": number;
  readonly "failed": number;
  readonly "waiting": number;
  readonly "moreWaiting": number;
  readonly "currentWave": number;
  readonly "closures": number;
  readonly "states": Readonly<Record<string, number>>;
  readonly "standings": Readonly<Record<string, number>>;
  readonly "waves": readonly (OverviewWave)[];
  readonly "needsYou": readonly (Need)[];
  readonly "waits": readonly (WaitingHosts)[];
  readonly "next": readonly (ComingEdge)[];
  readonly "risk"?: Risk;
  readonly "onFailure"?: "halt" | "rollback-and-halt";
  readonly "author"?: string;
  readonly "ciCommit"?: string;
  readonly "signedAt"?: string;
  readonly "staleAt"?: string;
  readonly "terminalAt"?: string;
  readonly "closure"?: string;
}

export interface OverviewWave {
  readonly "wave": number;
  readonly "text": string;
  readonly "verdict": "waiting" | "going" | "halted" | "done" | "broken";
  readonly "isCurrent": boolean;
  readonly "hosts": number;
  readonly "total": number;
  readonly "percent": number;
  readonly "states": Readonly<Record<string, number>>;
  readonly "standings": Readonly<Record<string, number>>;
  readonly "converged": number;
  readonly "failed": number;
  readonly "allowed": number;
  readonly "absent": number;
  readonly "soakSeconds": number;
  readonly "beginsAt"?: string;
  readonly "bakeUntil"?: string;
  readonly "guards"?: ListedGuards;
  readonly "waitsFor"?: string;
}

export interface WaitingHosts {
  readonly "hosts": number;
  readonly "gate": "quarantine" | "rollout-halted" | "operator-hold" | "channel-edges" | "wave-promotion" | "wave-promotion-host-unstaged" | "host-edge" | "disruption-budget" | "compliance-wave" | "probe-topology";
  readonly "reason": string;
  readonly "detail"?: string;
  readonly "since"?: string;
  readonly "until"?: string;
}

export interface ComingEdge {
  readonly "at": string;
  readonly "kind": "hold-ends" | "calendar" | "wave-begins" | "bake-ends" | "deadline" | "slot-returns" | "goes-stale" | "pruned";
  readonly "text": string;
  readonly "wave"?: number;
}

export interface Risk {
  readonly "inFlight": number;
  readonly "failed": number;
  readonly "allowed": number;
  readonly "toleranceLeft": number;
  readonly "worstCase": number;
  readonly "budgets": readonly (BudgetStatus)[];
  readonly "quarantined": readonly (string)[];
  readonly "quarantinedCount": number;
  readonly "lines": readonly (string)[];
  readonly "worstFailed"?: number;
}

export interface ServedBy {
  readonly "url": string;
  readonly "epoch": number;
}

export interface FeedPage {
  readonly "events": readonly (ListedRow)[];
  readonly "next": number;
  readonly "head": number;
  readonly "begins"?: number;
}

export interface Forecast {
  readonly "headSeq": number;
  readonly "at": string;
  readonly "runs": number;
  readonly "stages": readonly (StageKnown)[];
  readonly "rollouts"?: readonly (RolloutForecast)[];
  readonly "slow"?: readonly (SlowHost)[];
  readonly "unknown"?: string;
  readonly "calibration"?: Calibration;
  readonly "assumptions"?: readonly (string)[];
}

export interface StageKnown {
  readonly "stage": "ack" | "activation" | "reboot" | "convergence";
  readonly "observations": number;
  readonly "p50Seconds"?: number;
  readonly "p95Seconds"?: number;
}

export interface RolloutForecast {
  readonly "rolloutId": string;
  readonly "state": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "hosts": number;
  readonly "settled": number;
  readonly "most": Span;
  readonly "done": Span;
  readonly "waves"?: readonly (WaveForecast)[];
  readonly "stragglers"?: readonly (Straggler)[];
  readonly "edges"?: readonly (EdgeForecast)[];
  readonly "waits"?: readonly (string)[];
}

export interface Span {
  readonly "runs": number;
  readonly "p10"?: string;
  readonly "p50"?: string;
  readonly "p90"?: string;
}

export interface WaveForecast {
  readonly "wave": number;
  readonly "hosts": number;
  readonly "beganAt"?: string;
  readonly "endedAt"?: string;
  readonly "begins"?: Span;
  readonly "ends"?: Span;
}

export interface Straggler {
  readonly "host": string;
  readonly "why": string;
  readonly "done": Span;
}

export interface EdgeForecast {
  readonly "text": string;
  readonly "at": Span;
}

export interface SlowHost {
  readonly "rolloutId": string;
  readonly "host": string;
  readonly "stage": "ack" | "activation" | "reboot" | "convergence";
  readonly "since": string;
  readonly "p95Seconds": number;
}

export interface Calibration {
  readonly "ranges": number;
  readonly "held": number;
}

export interface PlanBody {
  readonly "fleet": string;
  readonly "manifests": readonly (string)[];
}

export interface Preview {
  readonly "headSeq": number;
  readonly "at": string;
  readonly "sentences": readonly (string)[];
  readonly "refused"?: string;
  readonly "begin"?: number;
  readonly "beginInAll"?: number;
  readonly "beginWithout"?: number;
  readonly "inFlightMax"?: number;
  readonly "withdrawn"?: number;
  readonly "isCut"?: boolean;
  readonly "rollouts"?: readonly (RolloutPreview)[];
  readonly "order"?: OrderPreview;
}

export interface RolloutPreview {
  readonly "rolloutId": string;
  readonly "state": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "comesTo": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "comesToWithout": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "done"?: Span;
  readonly "doneWithout"?: Span;
  readonly "waits"?: readonly (string)[];
}

export interface OrderPreview {
  readonly "rule": "prior" | "target";
  readonly "until": string;
  readonly "count": number;
  readonly "mayMove": number;
  readonly "moved": number;
  readonly "hosts"?: readonly (OrderedHost)[];
}

export interface OrderedHost {
  readonly "hostname": string;
  readonly "text": string;
  readonly "mayMove"?: boolean;
}

export interface PreviewBody {
  readonly "path": string;
  readonly "body": Readonly<Record<string, unknown>>;
}

export interface Past {
  readonly "seq": number;
  readonly "at": string;
  readonly "head": number;
  readonly "overview": Overview;
  readonly "hosts": readonly (HostMap)[];
}

export interface LogChain {
  readonly "text": string;
  readonly "first": number;
  readonly "intactTo": number;
  readonly "hashes": readonly (RowHash)[];
  readonly "brokenAt"?: number;
  readonly "problem"?: string;
}

export interface RowHash {
  readonly "seq": number;
  readonly "hash": string;
}

export interface ReleaseChanges {
  readonly "rolloutId": string;
  readonly "before": string;
  readonly "hosts": number;
  readonly "touched": number;
  readonly "waves": readonly (TouchedWave)[];
  readonly "worst": number;
  readonly "tolerated": number;
  readonly "worstText": string;
  readonly "sections"?: readonly (ChangedSection)[];
}

export interface TouchedWave {
  readonly "wave": number;
  readonly "hosts": number;
  readonly "touched": number;
}

export interface ChangedSection {
  readonly "heading": string;
  readonly "lines": readonly (string)[];
  readonly "more"?: number;
}

export interface BackTestReport {
  readonly "rolloutId": string;
  readonly "head": number;
  readonly "policies": readonly (TestedPolicy)[];
  readonly "assumptions": readonly (string)[];
  readonly "differing"?: readonly (string)[];
  readonly "kept"?: readonly (string)[];
}

export interface TestedPolicy {
  readonly "policy": string;
  readonly "harmed": number;
  readonly "seconds": number;
  readonly "inFlightMax": number;
  readonly "ended": number;
  readonly "assumed": number;
  readonly "rollouts": readonly (TestedRollout)[];
  readonly "notes"?: readonly (string)[];
}

export interface TestedRollout {
  readonly "rolloutId": string;
  readonly "state": "Opening" | "Active" | "Converging" | "Terminal" | "Reverted" | "Failed" | "Aborted" | "Superseded" | "Pruned";
  readonly "hosts": number;
  readonly "harmed": number;
  readonly "inFlightMax": number;
  readonly "openedAt": string;
  readonly "endedAt"?: string;
}

export interface Problem {
  readonly "type": string;
  readonly "title": string;
  readonly "status": number;
  readonly "detail"?: string;
  readonly "problems"?: readonly (Readonly<Record<string, unknown>>)[];
  readonly "more"?: number;
}
