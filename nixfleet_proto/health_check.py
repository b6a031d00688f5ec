"""Health checks: what an agent asks of a closure while it soaks. Frozen data.

`healthy` of a check: which of its samples count; see `HealthRule`. `None` is `"latest"`.
Rendered into the closure they belong to (`HEALTH_CHECKS_PATH`), so the closure's hash signs them.
Source: docs/spec/declarations.md, Probe kinds.
"""

import re
from typing import Final, TypeAlias, assert_never

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
HEALTHY_LATEST: Final = "latest"
HEALTHY_LAST_THIRD: Final = "last-third"
_PORT: Final = re.compile(r"[0-9]{1,5}")
_HEALTHY_SHARE: Final = re.compile(r"(100|[1-9][0-9]?)%")


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
    healthy: str | None = None


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
    healthy: str | None = None


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
    healthy: str | None = None


@frozen
@checked
class SystemdProbe:
    """Passes when at most `max_failed_units` units of the host's systemd have failed."""

    max_failed_units: int = 0
    timeout_secs: int = 10
    interval_seconds: int = 30
    mode: ProbeMode = ProbeMode.ENFORCE
    run_once: bool = False
    healthy: str | None = None


@frozen
@checked
class HomeProbe:
    """Passes while the host's control plane answers it after a switch, or may be away for all hosts.

    max_silence_secs: how long it may be without an answer. second_address: HOST:PORT of something else than the
    control plane; if it accepts connections while the control plane is silent, the network is not to blame.
    """

    max_silence_secs: int = 180
    second_address: str | None = None
    connect_timeout_secs: int = 3
    interval_seconds: int = 30
    mode: ProbeMode = ProbeMode.ENFORCE
    run_once: bool = False
    healthy: str | None = None


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
    healthy: str | None = None


HealthCheck: TypeAlias = HttpProbe | TcpProbe | ExecProbe | EvidenceProbe | SystemdProbe | HomeProbe


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
        case HomeProbe():
            return "home"
        case _:
            assert_never(check)


@frozen
@checked
class HealthRule:
    """At least `passes_pct` of the samples that a probe takes in the last `thirds` of the soak pass."""

    thirds: int
    passes_pct: int


def health_rule_of(check: HealthCheck) -> HealthRule | None:
    """Return what the samples of `check` must show at the end of the soak, `None` if the latest one decides.

    A `healthy` that `healthy_objection` objects to counts as absent: whoever reads declarations refuses it first.
    """
    if check.healthy == HEALTHY_LAST_THIRD:
        return HealthRule(1, 100)
    share = _HEALTHY_SHARE.fullmatch(check.healthy or HEALTHY_LATEST)
    return None if share is None else HealthRule(3, int(share[1]))


def healthy_objection(check: HealthCheck) -> tuple[str, str] | None:
    """Return what is expected of `healthy` and what is found, `None` if `check` can be judged by it."""
    if check.healthy in (None, HEALTHY_LATEST):
        return None
    if health_rule_of(check) is None:
        expected = f'"{HEALTHY_LATEST}", "{HEALTHY_LAST_THIRD}" or a share from "1%" to "100%"'
        return expected, f"{check.healthy!r}"
    if check.run_once:
        return f'"{HEALTHY_LATEST}", as the check runs once', f"{check.healthy!r}"
    return None


def address_of(text: str) -> tuple[str, int] | None:
    """Return host and port of `text`, HOST:PORT; `None` if it is not that. An IPv6 address is in brackets."""
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    return (host, int(port)) if host and ":" not in host else None


def time_limit_seconds_of(check: HealthCheck) -> int:
    """Return how long one run of `check` may take; 0 for one that only reads a file."""
    match check:
        case HttpProbe() | ExecProbe() | SystemdProbe():
            return check.timeout_secs
        case TcpProbe() | HomeProbe():
            return check.connect_timeout_secs
        case EvidenceProbe():
            return 0
        case _:
            assert_never(check)
