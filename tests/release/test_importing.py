"""A `fleet.resolved.json` from elsewhere: accepted as it is, or refused with every problem and its path."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nixfleet_proto.codec import canonical_bytes, decode_fleet, encode_fleet
from nixfleet_release import DeclarationError, import_fleet

VECTORS = Path(__file__).parents[1] / "vectors" / "planner_vectors.jsonl.gz"


def resolved(**changes: Any) -> dict[str, Any]:
    """A fleet as a Nix evaluation writes it: camelCase, null for what is absent, not signed yet."""
    host = {"platform": "x86_64-linux", "closureHash": None, "pubkey": None, "tags": ["web"]}
    fleet: dict[str, Any] = {
        "schemaVersion": 1,
        "hosts": {
            "web-01": {**host, "channel": "stable"},
            "web-02": {**host, "channel": "stable", "closureHash": "abc-system"},
            "web.lab.example": {**host, "channel": "lab"},
        },
        "channels": {
            name: {
                "rolloutPolicy": "all",
                "reconcileIntervalMinutes": 5,
                "freshnessWindow": 180,
                "signingIntervalMinutes": 60,
            }
            for name in ("stable", "lab")
        },
        "rolloutPolicies": {
            "all": {
                "strategy": "waves",
                "waves": [
                    {
                        "selector": {
                            "all": True,
                            "hosts": [],
                            "channel": None,
                            "tags": [],
                            "tagsAny": [],
                        },
                        "soakMinutes": 5,
                    }
                ],
                "healthGate": {"systemdFailedUnits": {"max": 0}},
                "onHealthFailure": "rollback-and-halt",
            }
        },
        "waves": {
            "stable": [{"hosts": ["web-01", "web-02"], "soakMinutes": 5}],
            "lab": [{"hosts": ["web.lab.example"], "soakMinutes": 5}],
        },
        "edges": [{"gates": "web-01", "gated": "web-02", "reason": None}],
        "channelEdges": [{"gates": "lab", "gated": "stable", "reason": "tried first"}],
        "disruptionBudgets": [
            {
                "selector": {
                    "all": False,
                    "hosts": [],
                    "channel": None,
                    "tags": ["nobody-has-this"],
                    "tagsAny": [],
                },
                "maxInFlight": 1,
                "maxInFlightPct": None,
            }
        ],
        "meta": {
            "schemaVersion": 1,
            "signedAt": None,
            "ciCommit": None,
            "signatureAlgorithm": "ed25519",
        },
    }
    return {**fleet, **changes}


def text(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()


def problems(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(DeclarationError) as caught:
        import_fleet(text(value))
    return [(it.path, it.message) for it in caught.value.problems]


def test_a_fleet_of_a_nix_evaluation_comes_back_as_it_was() -> None:
    """Its canonical form is that of what was read, and what is written of the fleet is the same bytes."""
    imported = import_fleet(text(resolved()))

    assert imported.canonical == canonical_bytes(resolved())
    assert encode_fleet(imported.fleet) == imported.canonical
    assert imported.unknown_fields == ()


def recorded() -> Iterator[Any]:
    """The fleets of the public project's planner vectors, in the spelling of its files."""
    with gzip.open(VECTORS) as rows:
        for row in rows:
            yield spelt(json.loads(row)["input"]["fleet"])


def spelt(fleet: Any, *, are_names: bool = False) -> Any:
    """`fleet` in camelCase; what stands in a mapping by name keeps its names."""
    by_name = ("hosts", "channels", "rollout_policies", "waves")
    match fleet:
        case dict():
            return {
                key if are_names else camel(key): spelt(it, are_names=key in by_name)
                for key, it in fleet.items()
            }
        case list():
            return [spelt(it) for it in fleet]
        case _:
            return fleet


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def test_every_recorded_fleet_is_read_and_written_back_byte_for_byte() -> None:
    """What another implementation wrote has the same canonical form after it was read here."""
    for fleet in recorded():
        assert encode_fleet(decode_fleet(text(fleet))) == canonical_bytes(fleet)


def test_a_recorded_fleet_is_imported_or_refused_for_what_is_wrong_with_it() -> None:
    """They are random: those that are in order are taken as they are, others have waves that nobody could run."""
    outcomes = set()
    for fleet in recorded():
        try:
            assert import_fleet(text(fleet)).canonical == canonical_bytes(fleet)
            outcomes.add("imported")
        except DeclarationError as error:
            outcomes |= {problem.message for problem in error.problems}

    assert "imported" in outcomes
    assert "empty wave" in outcomes


def test_old_names_of_edges_are_read_and_kept() -> None:
    """`before` and `after` mean `gates` and `gated`; a signature over them stays good."""
    edge = {"before": "web-01", "after": "web-02", "reason": None}

    imported = import_fleet(text(resolved(edges=[edge])))

    assert (imported.fleet.edges[0].gates, imported.fleet.edges[0].gated) == ("web-01", "web-02")
    assert imported.canonical == canonical_bytes(resolved(edges=[edge]))
    assert imported.unknown_fields == ()


def test_unknown_fields_are_kept_and_told() -> None:
    """A later evaluation may say more; nothing here decides by it, and nothing is lost."""
    later = resolved(later={"a": 1})
    later["channels"]["lab"]["compliance"] = {"frameworks": []}
    later["disruptionBudgets"][0]["note"] = "x"

    imported = import_fleet(text(later))

    assert imported.canonical == canonical_bytes(later)
    assert imported.unknown_fields == (
        "$.channels.lab.compliance",
        "$.disruptionBudgets[0].note",
        "$.later",
    )


def test_options_that_are_left_out_are_absent() -> None:
    """An older evaluation may not know of channel edges and budgets yet."""
    older = {key: value for key, value in resolved().items() if key != "channelEdges"}

    assert import_fleet(text(older)).fleet.channel_edges == ()
    assert import_fleet(text(older)).canonical == canonical_bytes(older)


def test_every_problem_is_told_with_its_path() -> None:
    """Names with dots are quoted; fields are spelt as in the file."""
    fleet = resolved(
        edges=[
            {"gates": "web-01", "gated": "web-02", "reason": None},
            {"gates": "web-02", "gated": "web-01", "reason": None},
            {"gates": "web-01", "gated": "web.lab.example", "reason": None},
            {"gates": "web-01", "gated": "web-9", "reason": None},
        ],
        waves={
            "stable": [
                {"hosts": ["web-01", "web.lab.example", "db"], "soakMinutes": 5},
                {"hosts": [], "soakMinutes": 0},
                {"hosts": ["web-01"], "soakMinutes": 0},
            ],
            "stabel": [],
        },
    )
    fleet["hosts"]["web.lab.example"]["channel"] = "labb"
    fleet["channels"]["lab"] |= {"rolloutPolicy": "al", "freshnessWindow": 1}
    fleet["disruptionBudgets"][0]["maxInFlight"] = 0

    assert problems(fleet) == [
        ("$.channels.lab.freshnessWindow", "artefacts would expire before they are signed again"),
        ("$.channels.lab.rolloutPolicy", "no such policy"),
        ("$.disruptionBudgets[0].maxInFlight", "out of range"),
        ("$.edges[1]", "a cycle"),
        ("$.edges[2]", "connects hosts of two channels"),
        ("$.edges[3].gated", "no such host"),
        ('$.hosts["web.lab.example"].channel', "no such channel"),
        ("$.waves.stabel", "no such channel"),
        ("$.waves.stable", "hosts in no wave"),
        ("$.waves.stable", "hosts in two waves"),
        ("$.waves.stable[0].hosts[1]", "host of another channel"),
        ("$.waves.stable[0].hosts[2]", "no such host"),
        ("$.waves.stable[1].hosts", "empty wave"),
    ]


def test_a_file_of_another_shape_is_refused_with_every_problem() -> None:
    """Wrong types and missing fields are told together, with their paths."""
    fleet = resolved(edges=[{"gates": 1}])
    fleet["hosts"]["web-01"]["tags"] = "web"
    del fleet["meta"]

    assert problems(fleet) == [
        ("$.edges[0].gated", "cannot be used"),
        ("$.edges[0].gates", "cannot be used"),
        ("$.hosts.web-01.tags", "cannot be used"),
        ("$.meta", "cannot be used"),
    ]


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"{", "$"),
        (b'{"hosts": {}, "hosts": {}}', "$.hosts"),
        (text(resolved(later=1.5)), "$.later"),
        (text(resolved(schemaVersion=2)), "$.schemaVersion"),
    ],
    ids=["no JSON", "a name twice", "a float", "another version"],
)
def test_a_file_that_could_not_be_signed_is_refused(data: bytes, path: str) -> None:
    """What has no canonical form, or is of a later version, is not taken."""
    with pytest.raises(DeclarationError) as caught:
        import_fleet(data)

    assert [it.path for it in caught.value.problems] == [path]
