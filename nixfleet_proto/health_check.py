"""Health checks: what an agent asks of a closure while it soaks. Frozen data.

Rendered into the closure they belong to (`HEALTH_CHECKS_PATH`), so the closure's hash signs them.
Source: docs/spec/declarations.md, Probe kinds.
"""

from typing import TypeAlias, assert_never

from attrs import field, frozen

from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.checked import checked
from nixfleet_proto.frozen_map import FrozenMap

HEALTH_CHECKS_PATH = "etc/nixfleet/agent/health-checks.json"
INTERVAL_SECONDS_MIN = 5
FAILURE_REASON_LENGTH_MAX = 512
HEALTH_CHECKS_MAX = 254
"""With the two probes that an agent adds, as many as a record holds."""
PROBE_NAME_LENGTH_MAX = 255


@frozen
@checked
class HttpProbe:
    """Passes when GET `url` answers `expect_status` in time, with `body_contains` in the body."""

    url: str
    expect_status: int = 200
    body_contains: str | None = None
    timeout_secs: int = 3
    interval_seconds: int = 30
    mode: ProbeMode = ProbeMode.ENFORCE
    run_once: bool = False


@frozen
@checked
class TcpProbe:
    """Passes when a connection to `host`:`port` is accepted in time."""

    host: str
    port: int
    connect_timeout_secs: int = 3
    interval_seconds: int = 30
    mode: ProbeMode = ProbeMode.ENFORCE
    run_once: bool = False


@frozen
@checked
class ExecProbe:
    """Passes when `command` (no shell) exits with `expect_exit_code` in time."""

    command: tuple[str, ...]
    expect_exit_code: int = 0
    timeout_secs: int = 10
    interval_seconds: int = 30
    mode: ProbeMode = ProbeMode.ENFORCE
    run_once: bool = False


@frozen
@checked
class SystemdProbe:
    """Passes when at most `max_failed_units` units of the host's systemd have failed."""

    max_failed_units: int = 0
    timeout_secs: int = 10
    interval_seconds: int = 30
    mode: ProbeMode = ProbeMode.ENFORCE
    run_once: bool = False


@frozen
@checked
class ControlOverride:
    """How one control of a framework counts, where it counts otherwise than the framework does."""

    mode: ProbeMode
    reason: str | None = None


@frozen
@checked
class EvidenceProbe:
    """Passes when the signed evidence file says that every enforced control of `framework` does.

    reason: why the framework counts as it does here. control_overrides: by control id.
    max_age_secs: evidence that was collected longer ago fails.
    """

    framework: str
    evidence_path: str
    interval_seconds: int = 30
    mode: ProbeMode = ProbeMode.ENFORCE
    run_once: bool = False
    reason: str | None = None
    control_overrides: FrozenMap[str, ControlOverride] = field(
        factory=lambda: FrozenMap[str, ControlOverride]()
    )
    max_age_secs: int = 24 * 60 * 60


HealthCheck: TypeAlias = HttpProbe | TcpProbe | ExecProbe | EvidenceProbe | SystemdProbe


def kind_of(check: HealthCheck) -> str:
    """Return the kind as declarations and `ProbeTopologyEntry.kind` spell it."""
    match check:
        case HttpProbe():
            return "http"
        case TcpProbe():
            return "tcp"
        case ExecProbe():
            return "exec"
        case EvidenceProbe():
            return "evidence"
        case SystemdProbe():
            return "systemd"
        case _:
            assert_never(check)
