"""The answers of `GET /v1/hosts/{host}` and of `GET /v1/rollouts/{id}/hosts`: one host whole, and all hosts in little.

Frozen data. Texts may quote hosts and operators, and are to be escaped where they are shown.
Source: docs/spec/overview.md, One host; docs/spec/overview.md, All hosts of a rollout.
"""

from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.agent_event import ProbeMode, ProbeStatus
from nixfleet_proto.checked import WordEnum
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.listings import HostExplained, ListedRow
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.rollout.state import Standing


class MomentKind(WordEnum):
    """A point in the life of a host in a rollout. The values are the wire's.

    SOAK_ENDS: the earliest end, which may be to come; from the switch on.
    """

    DISPATCHED = "dispatched"
    ACKNOWLEDGED = "acknowledged"
    SWITCH_BEGAN = "switch-began"
    SWITCHED = "switched"
    SWITCH_FAILED = "switch-failed"
    DEFERRED = "deferred"
    FIRST_PROBE = "first-probe"
    FIRST_PROBE_FAILURE = "first-probe-failure"
    SOAK_ENDS = "soak-ends"
    CONVERGED = "converged"
    FAILED = "failed"
    REVERTED = "reverted"


@frozen
class Moment:
    """When something happened, or is to happen."""

    kind: MomentKind
    at: datetime


@frozen
class ShownGate:
    """A gate that holds a host. frees: what ends that, a sentence. The rest is as in `HoldingGate`.

    since: `None`: not known, as of all gates but the first one and what has a time of its own.
    """

    gate: Gate
    reason: str
    frees: str
    detail: str = ""
    since: datetime | None = None
    until: datetime | None = None


@frozen
class ShownProbe:
    """The latest result of a probe. kind: as declared; `None`: it is not declared. status: `None`: no result yet.

    failing_since: of the present run of failures.
    """

    name: str
    kind: str | None = None
    mode: ProbeMode | None = None
    status: ProbeStatus | None = None
    last_observed_at: datetime | None = None
    last_pass_at: datetime | None = None
    failing_since: datetime | None = None
    failure_reason: str | None = None


@frozen
class ShownFailure:
    """Why the host failed, as it reported: the whole tail of what the switch wrote, if that failed."""

    text: str
    at: datetime | None = None
    exit_code: int | None = None
    stderr_tail: str | None = None


@frozen
class HostRecordPage:
    """A host in one rollout. headline: how it stands, one sentence.

    runs: the closure that it last reported to run. should_run: its target. ran_before: at its dispatch.
    is_drifted: it converged, and runs something else. moments: in order of their times. last_event_seq: of its journal.
    rows: the latest rows of the log about it, the newest first, with signatures.
    """

    rollout_id: RolloutId
    headline: str
    state: HostState
    standing: Standing
    attempt: int
    attempts: int
    should_run: str
    is_drifted: bool
    last_event_seq: int
    gates: tuple[ShownGate, ...]
    moments: tuple[Moment, ...]
    probes: tuple[ShownProbe, ...]
    rows: tuple[ListedRow, ...]
    wave: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    runs: str | None = None
    ran_before: str | None = None
    reverted_to: str | None = None
    failure: ShownFailure | None = None


@frozen
class HostWhole:
    """Everything that is known of one host. now: the control plane's time. head: the last row of the log.

    lines: where it stands, in sentences. explained: the same as data, as `/explain` has it. records: in the rollouts
    that serve it, by id.
    """

    hostname: str
    now: datetime
    head: int
    lines: tuple[str, ...]
    explained: HostExplained
    records: tuple[HostRecordPage, ...]


@frozen
class MapWave:
    """Hosts in a row that are in one wave; `None`: in none."""

    hosts: int
    wave: int | None = None


@frozen
class HostMap:
    """All hosts of a rollout, in columns of the same order: by wave, and by name.

    members: changes whenever the names do; names: absent if the asker has them. waves: how many hosts in a row are in
    each. states: a character for each host, its place in `state_names` as a digit; standings: likewise.
    """

    rollout_id: RolloutId
    head: int
    members: str
    state_names: tuple[str, ...]
    standing_names: tuple[str, ...]
    waves: tuple[MapWave, ...]
    states: str
    standings: str
    names: tuple[str, ...] | None = None


_SPELLING: Final = Spelling(camel_case, Absent.LEFT_OUT)
HOST_WHOLE: Final = Coder[HostWhole](_SPELLING, HostWhole, "host")
HOST_MAP: Final = Coder[HostMap](_SPELLING, HostMap, "map of hosts")
