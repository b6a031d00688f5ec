"""Merges the settings of scopes for each host. Pure; the time is an argument.

Compliance is merged first, because its result determines the evidence checks that the host's channel requires. Those
are
health checks in the channel's scope, and are merged with all others.
Source: docs/spec/declarations.md, Scopes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import assert_never

import attrs
from attrs import frozen

from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.fleet import FleetHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import ControlOverride, EvidenceProbe, HealthCheck, kind_of
from nixfleet_release.written.declaration import (
    ComplianceDeclaration,
    FleetDeclaration,
    FrameworkDeclaration,
    Pin,
    ScopedPins,
)
from nixfleet_runtime.documents.problems import at, quoted
from nixfleet_state_machine.scopes.merge import Layer, Scope, ScopeKind, layers_of
from nixfleet_state_machine.scopes.setting import AnySetting, Clash, Setting

# Least specific first: a tag's pin overrides a channel's, because it is for fewer hosts. A fleet cannot be pinned.
PIN_PRECEDENCE = (ScopeKind.CHANNEL, ScopeKind.TAG, ScopeKind.HOST)


@frozen
class ComplianceEntry:
    """One setting of a framework: its mode, its reason, or the override of one `control`."""

    framework: str
    value: ProbeMode | str | ControlOverride
    control: str | None = None


@frozen
class Settings:
    """All settings that scopes declare. A new kind needs a field here and a line in `__iter__`."""

    health_checks: Setting[HealthCheck]
    compliance: Setting[ComplianceEntry]
    pins: Setting[Pin]

    def __iter__(self) -> Iterator[AnySetting]:
        yield self.compliance
        yield self.health_checks
        yield self.pins

    def clashes(self, hostname: str, host: FleetHost) -> tuple[Clash, ...]:
        """Return everything that two tags of a host both declare, over all settings."""
        return tuple(clash for setting in self for clash in setting.clashes(hostname, host))


def settings_of(fleet: FleetDeclaration, now: datetime | None) -> Settings:
    """Return the settings of a fleet at `now`; with `None`, nothing has expired."""
    compliance = Setting[ComplianceEntry](
        "compliance", partial(_compliance_layers, fleet), show=_shown_entry
    )
    health_checks = Setting[HealthCheck](
        "health_checks",
        partial(_check_layers, fleet, compliance),
        key_of=partial(at, ""),
        show=_shown_check,
    )
    pins = Setting[Pin](
        "pin",
        partial(layers_of, declared=live_pins(fleet.pins, now)),
        precedence=PIN_PRECEDENCE,
        show=_shown_pin,
    )
    return Settings(health_checks, compliance, pins)


def live_pins(pins: ScopedPins, now: datetime | None) -> ScopedPins:
    """Return the pins that have not expired at `now`. An expired pin has no effect and cannot clash."""
    return FrozenMap(
        {
            scope: FrozenMap({name: pin for name, pin in own.items() if not pin.is_expired(now)})
            for scope, own in pins.items()
        }
    )


def check_name(framework: str) -> str:
    """Return the name of the health check for a framework."""
    return f"compliance-{framework}"


def _compliance_layers(
    fleet: FleetDeclaration, hostname: str, host: FleetHost
) -> tuple[Layer[ComplianceEntry], ...]:
    in_force = fleet.frameworks_of(host.channel)
    return tuple(
        Layer(layer.scope, _entries(layer.entries, in_force))
        for layer in layers_of(hostname, host, fleet.compliance)
    )


def _entries(
    declared: Mapping[str, ComplianceDeclaration], in_force: Collection[str]
) -> FrozenMap[str, ComplianceEntry]:
    """Return one entry per field that is set: a mode, a reason that is not empty, each control override."""
    entries: dict[str, ComplianceEntry] = {}
    for framework in declared.keys() & in_force:
        path, settings = at("", framework), declared[framework]
        if settings.mode is not None:
            entries[at(path, "mode")] = ComplianceEntry(framework, settings.mode)
        if settings.reason:
            entries[at(path, "reason")] = ComplianceEntry(framework, settings.reason)
        for control, override in settings.control_overrides.items():
            key = at(at(path, "control_overrides"), control)
            entries[key] = ComplianceEntry(framework, override, control)
    return FrozenMap(entries)


def _check_layers(
    fleet: FleetDeclaration, compliance: Setting[ComplianceEntry], hostname: str, host: FleetHost
) -> tuple[Layer[HealthCheck], ...]:
    declared = layers_of(hostname, host, fleet.health_checks)
    frameworks = fleet.frameworks_of(host.channel)
    if not frameworks:
        return declared
    entries = tuple(compliance.of(hostname, host).values.values())
    expanded: dict[str, HealthCheck] = {
        check_name(name): _evidence(
            name, framework, [entry for entry in entries if entry.framework == name]
        )
        for name, framework in frameworks.items()
    }
    return (*declared, Layer(Scope(ScopeKind.CHANNEL, host.channel), FrozenMap(expanded)))


def _evidence(
    name: str, framework: FrameworkDeclaration, entries: Iterable[ComplianceEntry]
) -> EvidenceProbe:
    mode, reason, overrides = ProbeMode.ENFORCE, None, dict[str, ControlOverride]()
    for entry in entries:
        match entry.value:
            case ProbeMode():  # before `str`, which it is a subclass of
                mode = entry.value
            case str():
                reason = entry.value
            case ControlOverride():
                overrides[entry.control or ""] = entry.value
            case _:
                assert_never(entry.value)
    return EvidenceProbe(
        name,
        framework.evidence_path,
        framework.interval_seconds,
        mode,
        reason=reason,
        control_overrides=FrozenMap(overrides),
        max_age_secs=framework.max_age_secs,
    )


def _shown_entry(entry: ComplianceEntry) -> str:
    match entry.value:
        case ProbeMode():
            return entry.value.value
        case str():
            return quoted(entry.value)
        case ControlOverride():
            return _with_reason(entry.value.mode, entry.value.reason)
        case _:
            assert_never(entry.value)


def _shown_pin(pin: Pin) -> str:
    until = f" until {pin.expires_at:%Y-%m-%d %H:%M:%SZ}" if pin.expires_at else ""
    return _with_reason(pin.commit + until, pin.reason)


def _shown_check(check: HealthCheck) -> str:
    """Return a check in TOML notation, without fields that have their default."""
    fields = {
        field.name: getattr(check, field.name)
        for field in attrs.fields(type(check))
        if getattr(check, field.name) != _default(field)
    }
    return ", ".join(
        [kind_of(check), *(f"{key} = {_shown(value)}" for key, value in fields.items())]
    )


def _default(field: "attrs.Attribute[object]") -> object:
    return FrozenMap[str, object]() if field.name == "control_overrides" else field.default


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(str(value))
        case tuple():
            return f"[{', '.join(map(_shown, value))}]"
        case FrozenMap():
            return f"{{{', '.join(map(str, value))}}}"
        case _:
            return str(value)


def _with_reason(text: str, reason: str | None) -> str:
    return f"{text} ({reason})" if reason else text
