"""Fleets, manifests, health checks and trust files as bytes."""

import json
from datetime import UTC, datetime

import pytest

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.codec import (
    DecodeError,
    DecodeProblem,
    HealthCheckSet,
    Uncanonical,
    decode_fleet,
    decode_health_checks,
    decode_manifest,
    decode_trust_root,
    encode_fleet,
    encode_health_checks,
    encode_manifest,
    encode_trust_root,
)
from nixfleet_proto.fleet import (
    DisruptionBudget,
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    PolicyWave,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import (
    ControlOverride,
    EvidenceProbe,
    ExecProbe,
    HealthCheck,
    HttpProbe,
    SystemdProbe,
    TcpProbe,
)
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustedKey, TrustRoot

JsonObject = dict[str, JsonValue]

AT = datetime(2026, 5, 16, 1, tzinfo=UTC)
META: JsonObject = {
    "ciCommit": "abc",
    "schemaVersion": 1,
    "signatureAlgorithm": "ed25519",
    "signedAt": "2026-05-16T01:00:00Z",
}
WEB: JsonObject = {"all": False, "channel": None, "hosts": [], "tags": ["web"], "tagsAny": []}
POLICY: JsonObject = {
    "healthGate": {"thresholds": [1, {"deep": None}]},
    "onHealthFailure": "rollback-and-halt",
    "strategy": "waves",
    "waves": [{"selector": WEB, "soakMinutes": 5}],
}
FLEET: JsonObject = {
    "channelEdges": [],
    "channels": {
        "stable": {
            "freshnessWindow": 180,
            "reconcileIntervalMinutes": 5,
            "rolloutPolicy": "careful",
            "signingIntervalMinutes": 60,
        }
    },
    "disruptionBudgets": [{"maxInFlight": 1, "maxInFlightPct": None, "selector": WEB}],
    "edges": [{"gated": "web-01", "gates": "db-01", "reason": None}],
    "hosts": {
        "web-01": {
            "channel": "stable",
            "closureHash": None,
            "platform": "x86_64-linux",
            "pubkey": None,
            "tags": ["web"],
        }
    },
    "meta": META,
    "rolloutPolicies": {"careful": POLICY},
    "schemaVersion": 1,
    "waves": {"stable": [{"hosts": ["web-01"], "soakMinutes": 5}]},
}


def _policy() -> RolloutPolicy:
    return RolloutPolicy(
        on_health_failure=OnHealthFailure.ROLLBACK_AND_HALT,
        waves=(PolicyWave(Selector(tags=("web",)), soak_minutes=5),),
        health_gate=FrozenMap({"thresholds": (1, FrozenMap({"deep": None}))}),
    )


def _fleet() -> FleetResolved:
    return FleetResolved(
        hosts=FrozenMap({"web-01": FleetHost("stable", tags=("web",))}),
        channels=FrozenMap({"stable": FleetChannel("careful")}),
        rollout_policies=FrozenMap({"careful": _policy()}),
        waves=FrozenMap({"stable": (Wave(("web-01",), soak_minutes=5),)}),
        meta=Meta(AT, "abc"),
        edges=(Edge(gates="db-01", gated="web-01"),),
        disruption_budgets=(DisruptionBudget(Selector(tags=("web",)), max_in_flight=1),),
    )


def _text(value: JsonValue) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_a_fleet_is_spelt_in_the_public_shape_with_nulls_for_absent_options() -> None:
    """A fleet is canonical JSON in camelCase, in which every option is written."""
    assert encode_fleet(_fleet()) == _text(FLEET)
    assert decode_fleet(_text(FLEET)) == _fleet()


def test_decoding_a_fleet_keeps_what_it_does_not_interpret_immutable() -> None:
    """A health gate is carried as it is, and can be hashed like any frozen value."""
    policy = decode_fleet(_text(FLEET)).rollout_policies["careful"]

    assert policy == _policy()
    assert hash(policy) == hash(_policy())


def test_decoding_a_fleet_with_the_old_names_of_edges_reads_them_as_the_new() -> None:
    """`before` and `after` are what `gates` and `gated` were called once."""
    old: list[JsonValue] = [
        {"before": "db-01", "after": "web-01"},
        {"gates": "a", "before": "b", "gated": "c"},
    ]

    assert decode_fleet(_text({**FLEET, "edges": old})).edges == (
        Edge(gates="db-01", gated="web-01"),
        Edge(gates="a", gated="c"),
    )


def test_decoding_a_fleet_that_does_not_say_when_it_was_signed_leaves_that_open() -> None:
    """A missing time of signing is for the verifier to refuse, not for the reader."""
    fleet = decode_fleet(_text({**FLEET, "meta": {}}))

    assert fleet.meta == Meta(signed_at=None)


def test_decoding_a_fleet_with_many_problems_names_them_all() -> None:
    """Problems are reported from everywhere in a fleet, by the names of hosts and the like."""
    broken: JsonObject = {
        **FLEET,
        "hosts": {"edge.lan": {"tags": "web"}, "web-02": {"channel": "stable", "pubkey": 1}},
        "channels": [],
        "edges": [{"after": "web-01"}, "web-01"],
        "rolloutPolicies": {"careful": {**POLICY, "onHealthFailure": "HALT"}},
        "waves": {"stable": [{"hosts": ["web-01", 2], "soakMinutes": -1}]},
        "meta": None,
    }

    with pytest.raises(DecodeError) as refusal:
        decode_fleet(_text(broken))

    assert set(refusal.value.problems) == {
        DecodeProblem('$.hosts["edge.lan"].channel', "a string", "nothing"),
        DecodeProblem('$.hosts["edge.lan"].tags', "a list", '"web"'),
        DecodeProblem("$.hosts.web-02.pubkey", "a string", "1"),
        DecodeProblem("$.channels", "an object", "a list"),
        DecodeProblem("$.edges[0].gates", "a string", "nothing"),
        DecodeProblem("$.edges[1]", "an object", '"web-01"'),
        DecodeProblem(
            "$.rolloutPolicies.careful.onHealthFailure",
            "one of 'halt', 'rollback-and-halt'",
            '"HALT"',
        ),
        DecodeProblem("$.waves.stable[0].hosts[1]", "a string", "2"),
        DecodeProblem("$.waves.stable[0].soakMinutes", "an integer from 0 to 2^64 - 1", "-1"),
        DecodeProblem("$.meta", "an object", "null"),
    }


@pytest.mark.parametrize(
    ("policy", "where", "expected"),
    [
        ({"maxFailurePct": 0}, "maxFailurePct", "1 or more"),
        ({"maxFailurePct": 101}, "maxFailurePct", "100 or less"),
        ({"waves": [{"selector": WEB, "maxFailurePct": 0}]}, "waves[0].maxFailurePct", "1 or more"),
        (
            {"deadlines": {"ack": {"minutes": 0, "then": "wait"}}},
            "deadlines.ack.minutes",
            "1 or more",
        ),
        (
            {"deadlines": {"reboot": {"minutes": 2**31, "then": "wait"}}},
            "deadlines.reboot.minutes",
            "2147483647 or less",
        ),
        ({"retry": {"attempts": 0}}, "retry.attempts", "1 or more"),
        ({"retry": {"factor": 0}}, "retry.factor", "1 or more"),
    ],
)
def test_decoding_a_policy_with_numbers_that_none_can_have_is_refused(
    policy: JsonObject, where: str, expected: str
) -> None:
    """Whoever signed it: the planner never sees a policy that it cannot compute with, from a fleet or a manifest."""
    fleet = {**FLEET, "rolloutPolicies": {"careful": {**POLICY, **policy}}}
    manifest = json.loads(encode_manifest(RolloutManifest("stable", "r1", "", "", (), Meta(AT))))
    manifest["rolloutPolicy"] = {**POLICY, **policy}

    with pytest.raises(DecodeError) as of_fleet:
        decode_fleet(json.dumps(fleet).encode())
    with pytest.raises(DecodeError) as of_manifest:
        decode_manifest(json.dumps(manifest).encode())

    assert [(it.path, it.expected) for it in of_fleet.value.problems] == [
        (f"$.rolloutPolicies.careful.{where}", expected)
    ]
    assert [it.path for it in of_manifest.value.problems] == [f"$.rolloutPolicy.{where}"]


def test_decoding_a_resolved_wave_with_a_share_that_none_can_have_is_refused() -> None:
    """The tolerance of a wave has the limits of the policy's."""
    waves = {"stable": [{"hosts": ["web-01"], "soakMinutes": 0, "maxFailurePct": 101}]}

    with pytest.raises(DecodeError) as raised:
        decode_fleet(json.dumps({**FLEET, "waves": waves}).encode())

    assert [it.path for it in raised.value.problems] == ["$.waves.stable[0].maxFailurePct"]


def test_decoding_a_mapping_names_no_more_problems_than_can_be_shown() -> None:
    """A fleet of many wrong hosts costs no more to refuse than one of a few."""
    fleet = {"hosts": {f"web-{index:02}": 7 for index in range(50)}}
    with pytest.raises(DecodeError) as refusal:
        decode_fleet(_text(fleet))

    hosts = [it.path for it in refusal.value.problems if it.path.startswith("$.hosts")]
    assert len(hosts) == 21


def test_encoding_a_fleet_with_a_float_is_refused() -> None:
    """What is to be signed has no floats, not even in what is only carried."""
    policy = RolloutPolicy(health_gate=FrozenMap({"share": 0.5}))
    fleet = FleetResolved(FrozenMap(), FrozenMap(), FrozenMap({"p": policy}), FrozenMap(), Meta(AT))

    with pytest.raises(Uncanonical, match=r"\$\.rolloutPolicies\.p\.healthGate\.share"):
        encode_fleet(fleet)


def test_a_manifest_is_spelt_in_camel_case_and_comes_back() -> None:
    """A manifest is canonical JSON with every field, and comes back equal."""
    manifest = RolloutManifest(
        channel="stable",
        channel_ref="a1b2",
        display_name="Stable",
        fleet_resolved_hash="00",
        host_set=(HostAssignment("web-01", "closure-2", wave_index=1),),
        meta=Meta(AT, "abc"),
        rollout_policy=_policy(),
        wave_soak_minutes=(5, 0),
        disruption_budgets=(
            ManifestBudget(Selector(tags=("web",)), ("web-01",), max_in_flight_pct=50),
        ),
    )
    spelt: JsonObject = {
        "channel": "stable",
        "channelRef": "a1b2",
        "disruptionBudgets": [
            {"hosts": ["web-01"], "maxInFlight": None, "maxInFlightPct": 50, "selector": WEB}
        ],
        "displayName": "Stable",
        "fleetResolvedHash": "00",
        "hostSet": [{"hostname": "web-01", "targetClosure": "closure-2", "waveIndex": 1}],
        "meta": META,
        "rolloutPolicy": POLICY,
        "schemaVersion": 1,
        "waveSoakMinutes": [5, 0],
    }

    assert encode_manifest(manifest) == _text(spelt)
    assert decode_manifest(_text(spelt)) == manifest


PROBES: dict[str, HealthCheck] = {
    "web": HttpProbe("http://localhost/", body_contains="ok"),
    "db": TcpProbe("localhost", 5432, mode=ProbeMode.OBSERVE),
    "disk": ExecProbe(("df", "/"), expect_exit_code=-1, run_once=True),
    "nis2": EvidenceProbe("nis2", "/var/lib/evidence.json"),
    "units": SystemdProbe(max_failed_units=1),
}
CHECKS: HealthCheckSet = FrozenMap(PROBES)


def test_health_checks_are_spelt_by_name_with_their_kind() -> None:
    """A health checks file is canonical JSON by probe name; absent options are left out."""
    spelt = json.loads(encode_health_checks(CHECKS))

    assert encode_health_checks(CHECKS) == _text(spelt)
    assert list(spelt) == ["db", "disk", "nis2", "units", "web"]
    assert spelt["db"] == {
        "kind": "tcp",
        "host": "localhost",
        "port": 5432,
        "connectTimeoutSecs": 3,
        "intervalSeconds": 30,
        "mode": "observe",
        "runOnce": False,
    }
    assert spelt["web"]["bodyContains"] == "ok"
    assert (
        "bodyContains"
        not in json.loads(encode_health_checks(FrozenMap({"web": HttpProbe("http://localhost/")})))[
            "web"
        ]
    )
    assert decode_health_checks(encode_health_checks(CHECKS)) == CHECKS


def test_control_overrides_are_spelt_by_control_id() -> None:
    """An evidence probe says which controls count otherwise, and why; a reason may be left out."""
    probe = EvidenceProbe(
        "nis2",
        "/var/lib/evidence.json",
        reason="an old host",
        control_overrides=FrozenMap(
            {
                "art-21": ControlOverride(ProbeMode.OBSERVE, "replaced in May"),
                "art-23": ControlOverride(ProbeMode.DISABLED),
            }
        ),
    )
    checks: HealthCheckSet = FrozenMap({"nis2": probe})

    spelt = json.loads(encode_health_checks(checks))["nis2"]

    assert spelt["reason"] == "an old host"
    assert spelt["controlOverrides"] == {
        "art-21": {"mode": "observe", "reason": "replaced in May"},
        "art-23": {"mode": "disabled"},
    }
    assert decode_health_checks(encode_health_checks(checks)) == checks


def test_decoding_health_checks_from_a_list_takes_their_names_from_the_entries() -> None:
    """A list of probes with names says the same as a mapping by name."""
    spelt = json.loads(encode_health_checks(CHECKS))
    listed = [{"name": name, **probe} for name, probe in spelt.items()]

    assert decode_health_checks(_text(listed)) == CHECKS


def test_decoding_a_probe_with_its_kind_and_what_it_needs_fills_in_the_rest() -> None:
    """A probe needs its kind and what has no default."""
    text = b'{"web":{"kind":"http","url":"http://localhost/"}}'

    assert decode_health_checks(text) == {"web": HttpProbe("http://localhost/")}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (b"3", [DecodeProblem("$", "an object", "3")]),
        (
            b'{"web":{"kind":"ping"}}',
            [
                DecodeProblem(
                    "$.web.kind",
                    "one of 'http', 'tcp', 'exec', 'evidence', 'systemd', 'home'",
                    '"ping"',
                )
            ],
        ),
        (b'{"web":{"kind":"http"}}', [DecodeProblem("$.web.url", "a string", "nothing")]),
        (
            b'[{"kind":"http"},{"name":"a"},{"name":"a"},7]',
            [
                DecodeProblem("$[0].name", "the probe's name", "nothing"),
                DecodeProblem("$[2].name", "a name of its own", '"a" again'),
                DecodeProblem("$[3].name", "the probe's name", "nothing"),
            ],
        ),
        (
            b'[{"name":"db","kind":"tcp","host":"localhost","port":"5432"}]',
            [DecodeProblem("$.db.port", "an integer", '"5432"')],
        ),
    ],
)
def test_decoding_broken_health_checks_names_what_is_wrong(
    text: bytes, problems: list[DecodeProblem]
) -> None:
    """Probes of no known kind, without a name or with a name twice are refused."""
    with pytest.raises(DecodeError) as refusal:
        decode_health_checks(text)

    assert list(refusal.value.problems) == problems


def test_a_trust_root_is_spelt_in_camel_case_and_comes_back() -> None:
    """A trust file has the release key with room to rotate, the root key, and the operators."""
    key: JsonObject = {"algorithm": "ed25519", "publicKey": "ab" * 32}
    spelt: JsonObject = {
        "ciReleaseKey": {"current": key, "previous": None, "rejectBefore": "2026-05-16T01:00:00Z"},
        "operators": [{"name": "alice", "publicKey": key, "role": "operate"}],
        "orgRootKey": None,
    }
    trusted = TrustedKey("ab" * 32)
    trust = TrustRoot(
        KeySlot(trusted, reject_before=AT),
        operators=(Operator("alice", trusted, OperatorRole.OPERATE),),
    )

    assert encode_trust_root(trust) == _text(spelt)
    assert decode_trust_root(_text(spelt)) == trust


def test_a_trust_file_with_one_name_or_one_key_twice_is_refused_with_its_place() -> None:
    """One person would count as two who approve. A key is the same in upper case."""
    operators: list[JsonValue] = [
        {"name": "alice", "publicKey": {"publicKey": "ab" * 32}},
        {"name": "bob", "publicKey": {"publicKey": "AB" * 32}},
        {"name": "alice", "publicKey": {"publicKey": "cd" * 32}},
    ]
    spelt: JsonObject = {
        "ciReleaseKey": {"current": {"publicKey": "00"}},
        "operators": operators,
    }
    with pytest.raises(DecodeError) as refusal:
        decode_trust_root(_text(spelt))

    assert [str(each) for each in refusal.value.problems] == [
        f"$.operators[1].publicKey: expected a key of its own, found {'AB' * 32}, as of operators[0]",
        "$.operators[2].name: expected a name of its own, found 'alice', as of operators[0]",
    ]


def test_decoding_a_trust_file_with_only_a_release_key_trusts_nobody_else() -> None:
    """A trust file needs nothing but the current release key."""
    text = b'{"ciReleaseKey":{"current":{"publicKey":"00"}}}'

    assert decode_trust_root(text) == TrustRoot(KeySlot(TrustedKey("00")))


def test_more_health_checks_than_a_record_holds_are_refused_with_names_that_are_too_long() -> None:
    """Their results could not be reported."""
    checks = {f"probe-{index}": HttpProbe("http://localhost/") for index in range(255)}
    long = "x" * 256
    with pytest.raises(DecodeError) as refusal:
        decode_health_checks(
            encode_health_checks(FrozenMap({**checks, long: HttpProbe("http://localhost/")}))
        )
    assert [problem.expected for problem in refusal.value.problems] == [
        "at most 254 probes",
        "a name of at most 255 characters",
    ]
