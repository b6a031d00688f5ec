"""What is signed or kept in files, as canonical bytes: fleets, manifests, health checks, trust files.

Absent options are written as null, in the shape of the public project's `fleet.resolved.json`.
Source: docs/spec/declarations.md, Resolved fleet; docs/spec/declarations.md, Manifests; docs/spec/wire.md, JSON;
docs/spec/trust.md, Artefacts.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, TypeAlias

from attrs import frozen

from nixfleet_proto.codec.json_text import member_path, parse_json
from nixfleet_proto.codec.primitives import NOTHING, Found, shown
from nixfleet_proto.codec.problem import PROBLEMS_LOOKED_FOR, DecodeError, DecodeProblem
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.fleet import (
    SCHEMA_VERSION,
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    Ramp,
    Wave,
)
from nixfleet_proto.freshness import FRESHNESS_WINDOW_MINUTES
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    HEALTH_CHECKS_MAX,
    PROBE_NAME_LENGTH_MAX,
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HomeProbe,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
    healthy_objection,
)
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.manifest import ManifestBudget, RolloutManifest
from nixfleet_proto.policy import Deadlines, PolicyWave, RolloutPolicy
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.steering.guards import Check, WaveGuards
from nixfleet_proto.trust import TrustRoot

HealthCheckSet: TypeAlias = FrozenMap[str, HealthCheck]
"""A closure's health checks by probe name."""


@frozen
class _Version:
    schema_version: int = SCHEMA_VERSION


@frozen
class _Header:
    meta: Meta


@frozen
class _Window:
    freshness_window_minutes: int | None = None


@frozen
class _ChannelWindow:
    freshness_window: int = FRESHNESS_WINDOW_MINUTES


@frozen
class _Windows:
    channels: FrozenMap[str, _ChannelWindow]


def schema_version_of(artefact: JsonValue) -> int:
    """Return the schema version of any artefact, whatever else is in it.

    Raises: DecodeError.
    """
    return _VERSION.of_json(artefact).schema_version


def meta_of(artefact: JsonValue) -> Meta:
    """Return the `meta` of any artefact of this schema version. Raises: DecodeError."""
    return _HEADER.of_json(artefact).meta


def fleet_window_of(artefact: JsonValue) -> int | None:
    """Return the longest freshness window of the channels of a fleet, in minutes. Raises: DecodeError."""
    channels = _WINDOWS.of_json(artefact).channels.values()
    return max((channel.freshness_window for channel in channels), default=None)


def manifest_window_of(artefact: JsonValue) -> int | None:
    """Return the freshness window that a manifest declares, in minutes. Raises: DecodeError."""
    return _WINDOW.of_json(artefact).freshness_window_minutes


def fleet_of(artefact: JsonValue) -> FleetResolved:
    """As `decode_fleet`, from parsed JSON. Raises: DecodeError."""
    return _FLEET.of_json(artefact)


def manifest_of(artefact: JsonValue) -> RolloutManifest:
    """As `decode_manifest`, from parsed JSON. Raises: DecodeError."""
    return _MANIFEST.of_json(artefact)


def encode_fleet(fleet: FleetResolved) -> bytes:
    """Return the canonical bytes of `fleet.resolved.json`. Raises: Uncanonical."""
    return _FLEET.encode_canonical(fleet)


def decode_fleet(data: bytes) -> FleetResolved:
    """Return the fleet that `data` holds. `before`/`after` are old names of an edge's `gates`/`gated`.

    Raises: DecodeError, also for numbers that no policy can have.
    """
    return fleet_of(parse_json(data, _FLEET.what))


def encode_manifest(manifest: RolloutManifest) -> bytes:
    """Return the canonical bytes of a rollout manifest. Raises: Uncanonical."""
    return _MANIFEST.encode_canonical(manifest)


def decode_manifest(data: bytes) -> RolloutManifest:
    """Return the manifest that `data` holds. Raises: DecodeError, also for numbers that no policy can have."""
    return manifest_of(parse_json(data, _MANIFEST.what))


def encode_health_checks(checks: HealthCheckSet) -> bytes:
    """Return the canonical bytes of `health-checks.json`: probes with their `kind`, by name."""
    return _HEALTH_CHECKS.encode_canonical(checks)


def decode_health_checks(data: bytes) -> HealthCheckSet:
    """Return the probes that `data` holds, by name: a mapping, or a list of probes with a `name`.

    Raises: DecodeError, also for more probes than a record holds, names that are too long to be reported, or a
    `healthy` that the probe cannot be judged by.
    """
    parsed = parse_json(data, _HEALTH_CHECKS.what)
    checks = _HEALTH_CHECKS.of_json(_by_name(parsed) if isinstance(parsed, list) else parsed)
    _require(_HEALTH_CHECKS.what, _check_limits(checks))
    return checks


def encode_trust_root(trust: TrustRoot) -> bytes:
    """Return the canonical bytes of a trust file."""
    return _TRUST_ROOT.encode_canonical(trust)


def decode_trust_root(data: bytes) -> TrustRoot:
    """Return the trust root that a trust file holds. Raises: DecodeError."""
    return _TRUST_ROOT.decode(data)


def _require(what: str, problems: Iterator[DecodeProblem]) -> None:
    if found := tuple(islice(problems, PROBLEMS_LOOKED_FOR)):
        raise DecodeError(what, found)


def _check_limits(checks: HealthCheckSet) -> Iterator[DecodeProblem]:
    if len(checks) > HEALTH_CHECKS_MAX:
        yield DecodeProblem("$", f"at most {HEALTH_CHECKS_MAX} probes", f"{len(checks)}")
    for name, check in checks.items():
        if (objection := healthy_objection(check)) is not None:
            yield DecodeProblem(f"{member_path('$', name)}.healthy", *objection)
        if len(name) > PROBE_NAME_LENGTH_MAX:
            expected = f"a name of at most {PROBE_NAME_LENGTH_MAX} characters"
            yield DecodeProblem(member_path("$", name), expected, f"{len(name)}")


def _by_name(probes: list[JsonValue]) -> JsonValue:
    names = [
        probe.get("name", NOTHING) if isinstance(probe, Mapping) else NOTHING for probe in probes
    ]
    problems = tuple(_name_problems(names))
    if problems:
        raise DecodeError(_HEALTH_CHECKS.what, problems)
    return {str(name): probe for name, probe in zip(names, probes, strict=True)}


def _name_problems(names: list[Found]) -> Iterator[DecodeProblem]:
    for index, name in enumerate(names):
        if not isinstance(name, str):
            yield DecodeProblem(f"$[{index}].name", "the probe's name", shown(name))
        elif name in names[:index]:
            yield DecodeProblem(f"$[{index}].name", "a name of its own", f"{shown(name)} again")


def _with_new_names(edge: JsonValue) -> JsonValue:
    """Rename `before` and `after`, the old names of an edge's `gates` and `gated`."""
    if not isinstance(edge, Mapping):
        return edge
    new_names = {"before": "gates", "after": "gated"}
    return {**{new: edge[old] for old, new in new_names.items() if old in edge}, **edge}


def _with_signing_time(meta: JsonValue) -> JsonValue:
    """A missing `signedAt` equals a null one: not signed. The verifier refuses it, not the reader."""
    return {"signedAt": None, **meta} if isinstance(meta, Mapping) else meta


ARTEFACT_SPELLING: Final = Spelling(
    camel_case,
    Absent.AS_NULL,
    {Edge: _with_new_names, Meta: _with_signing_time},
    left_out={
        FleetResolved: ("calendar",),
        CalendarEntry: (
            "reason",
            "repeat",
            "start",
            "minutes",
            "days",
            "month_day",
            "nth",
            "until",
            "begins",
            "ends",
            "minutes_needed",
        ),
        Meta: ("author",),
        FleetChannel: ("on_drift", "enabled"),
        FleetHost: ("enabled",),
        DisruptionBudget: ("ramp", "max_per_minute"),
        ManifestBudget: ("ramp", "max_per_minute"),
        Ramp: ("factor",),
        RolloutManifest: ("freshness_window_minutes", "wave_not_before", "blast_radius"),
        RolloutPolicy: ("max_failures", "max_failure_pct", "deadlines", "retry", "recall"),
        PolicyWave: ("max_failures", "max_failure_pct", "guards"),
        Wave: ("not_before", "max_failures", "max_failure_pct", "guards"),
        WaveGuards: ("bake_minutes", "approvals", "checks", "waivable"),
        Check: ("failures", "inconclusive", "interval_seconds"),
        Deadlines: ("ack", "activation", "reboot", "convergence"),
    },
)
_PROBES = Spelling(camel_case, Absent.LEFT_OUT)
_PROBES.tag(
    HealthCheck,
    {
        "http": HttpProbe,
        "tcp": TcpProbe,
        "exec": ExecProbe,
        "evidence": EvidenceProbe,
        "systemd": SystemdProbe,
        "home": HomeProbe,
    },
)

_VERSION = Coder[_Version](ARTEFACT_SPELLING, _Version, "artefact")
_HEADER = Coder[_Header](ARTEFACT_SPELLING, _Header, "artefact")
_WINDOW = Coder[_Window](ARTEFACT_SPELLING, _Window, "rollout manifest")
_WINDOWS = Coder[_Windows](ARTEFACT_SPELLING, _Windows, "fleet")
_FLEET = Coder[FleetResolved](ARTEFACT_SPELLING, FleetResolved, "fleet")
_MANIFEST = Coder[RolloutManifest](ARTEFACT_SPELLING, RolloutManifest, "rollout manifest")
_TRUST_ROOT = Coder[TrustRoot](ARTEFACT_SPELLING, TrustRoot, "trust file")
_HEALTH_CHECKS = Coder[HealthCheckSet](_PROBES, HealthCheckSet, "health checks file")
