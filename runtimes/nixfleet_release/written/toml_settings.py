"""Reads the settings of scopes in TOML: health checks, compliance and pins. Keys and types, as in `toml_reader`."""

from collections.abc import Callable, Mapping

from attrs import evolve

from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    ControlOverride,
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HomeProbe,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
)
from nixfleet_release.written.declaration import (
    EVIDENCE_AGE_SECS_MAX,
    ComplianceDeclaration,
    FrameworkDeclaration,
    Pin,
)
from nixfleet_runtime.documents.problems import listed
from nixfleet_runtime.documents.tables import Table


def read_health_check(table: Table) -> HealthCheck:
    """Return the health check in a table."""
    table.require("kind", f"one of {listed(_KINDS)}")
    kind = table.optional_text("kind")
    if kind is not None and kind not in _KINDS:
        table.refuse_choice("kind", "unknown kind", kind, _KINDS)
    check = _KINDS.get(kind or "", _of_unknown_kind)(table)
    return evolve(
        check,
        interval_seconds=table.integer("interval_seconds", check.interval_seconds),
        mode=table.choice("mode", check.mode),
        run_once=table.flag("run_once"),
        healthy=table.optional_text("healthy"),
    )


def read_framework(table: Table) -> FrameworkDeclaration:
    """Return the framework in a channel's table."""
    default = FrameworkDeclaration(table.text("evidence_path"))
    return evolve(
        default,
        interval_seconds=table.integer("interval_seconds", default.interval_seconds),
        max_age_secs=table.integer("max_age_secs", default.max_age_secs),
    )


def read_compliance(table: Table) -> ComplianceDeclaration:
    """Return a scope's settings of a framework."""
    return ComplianceDeclaration(
        mode=table.choice("mode", ProbeMode.ENFORCE) if table.has("mode") else None,
        reason=table.any_text("reason"),
        control_overrides=_overrides(table),
    )


def read_pin(scope: Table) -> FrozenMap[str, Pin]:
    """Return the pin of a scope under the empty name; empty if it has none."""
    if not scope.has("pin"):
        return FrozenMap[str, Pin]()
    table = scope.section("pin")
    return FrozenMap(
        {
            "": Pin(
                commit=table.text("commit"),
                reason=table.optional_text("reason"),
                expires_at=table.instant("expires_at") if table.has("expires_at") else None,
            )
        }
    )


def _overrides(table: Table) -> FrozenMap[str, ControlOverride]:
    return FrozenMap(
        {name: _override(each) for name, each in table.sections("control_overrides").items()}
    )


def _override(table: Table) -> ControlOverride:
    table.require("mode", f"one of {listed(ProbeMode)}")
    return ControlOverride(table.choice("mode", ProbeMode.ENFORCE), table.optional_text("reason"))


def _http(table: Table) -> HttpProbe:
    default = HttpProbe(url=table.text("url"))
    return evolve(
        default,
        expect_status=table.integer("expect_status", default.expect_status),
        body_contains=table.optional_text("body_contains"),
        timeout_secs=table.integer("timeout_secs", default.timeout_secs),
    )


def _tcp(table: Table) -> TcpProbe:
    table.require("port", "an integer")
    default = TcpProbe(host=table.text("host"), port=table.integer("port", 1))
    return evolve(
        default,
        connect_timeout_secs=table.integer("connect_timeout_secs", default.connect_timeout_secs),
    )


def _exec(table: Table) -> ExecProbe:
    table.require("command", "an array of strings")
    default = ExecProbe(command=table.some_texts("command"))
    return evolve(
        default,
        expect_exit_code=table.integer("expect_exit_code", default.expect_exit_code),
        timeout_secs=table.integer("timeout_secs", default.timeout_secs),
    )


def _systemd(table: Table) -> SystemdProbe:
    default = SystemdProbe()
    return evolve(
        default,
        max_failed_units=table.integer("max_failed_units", default.max_failed_units),
        timeout_secs=table.integer("timeout_secs", default.timeout_secs),
    )


def _home(table: Table) -> HomeProbe:
    default = HomeProbe()
    return evolve(
        default,
        max_silence_secs=table.integer("max_silence_secs", default.max_silence_secs),
        second_address=table.optional_text("second_address"),
        connect_timeout_secs=table.integer("connect_timeout_secs", default.connect_timeout_secs),
    )


def _evidence(table: Table) -> EvidenceProbe:
    return EvidenceProbe(
        table.text("framework"),
        table.text("evidence_path"),
        reason=table.optional_text("reason"),
        control_overrides=_overrides(table),
        max_age_secs=table.integer("max_age_secs", EVIDENCE_AGE_SECS_MAX),
    )


def _of_unknown_kind(table: Table) -> HealthCheck:
    # The valid keys are unknown too, so only those that all kinds share are checked.
    table.accept_unknown_keys()
    return EvidenceProbe("unknown", "/unknown")


_KINDS: Mapping[str, Callable[[Table], HealthCheck]] = {
    "http": _http,
    "tcp": _tcp,
    "exec": _exec,
    "evidence": _evidence,
    "systemd": _systemd,
    "home": _home,
}
