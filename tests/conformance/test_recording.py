"""Our own vectors: kept fresh, complete, and in agreement with the code that they were recorded from."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from nixfleet_proto.agent_event import AgentEvent, OnHealthFailure
from nixfleet_proto.codec import DecodeError, decode_envelope, encode_envelope
from nixfleet_state_machine import HostState, RolloutState
from nixfleet_state_machine.host.errors import ConvergenceRule
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.host import read_host_vector
from nixfleet_testing.conformance.kinds import check_file, check_row
from nixfleet_testing.conformance.recorded_plans import Scene, changes
from nixfleet_testing.conformance.recording import record
from nixfleet_testing.conformance.reference_json import (
    number_at,
    object_at,
    objects_at,
    text_at,
)
from nixfleet_testing.conformance.wire import WireCodec
from tests.conformance.recorded import VECTORS

OURS = WireCodec(encode_envelope, decode_envelope, DecodeError)
KEPT = VECTORS / "nixfleet"
COUNTS = {
    "host_matrix.jsonl.gz": 4760,
    "host_vectors.jsonl.gz": 48,
    "rollout_matrix.jsonl.gz": 736,
    "rollout_vectors.jsonl.gz": 11,
    "planner_vectors.jsonl.gz": 210,
    "wire_vectors.jsonl.gz": 76,
    "wire_parse_vectors.jsonl.gz": 990,
    "rehydration_vectors.jsonl.gz": 17,
}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which everything was recorded."""
    directory = tmp_path_factory.mktemp("once")
    record(directory, OURS)
    return directory


@cache
def _rows(name: str) -> list[JsonObject]:
    with gzip.open(KEPT / f"{name}.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


def test_recording_again_gives_what_is_kept(once: Path) -> None:
    """The kept files are what `nixfleet conformance --record tests/vectors/nixfleet` writes now."""
    assert {path.name for path in KEPT.iterdir()} == {path.name for path in once.iterdir()}
    for path in sorted(once.iterdir()):
        # Unpacked: how well an archive is packed depends on the zlib that packs it.
        kept, now = (gzip.decompress(each.read_bytes()) for each in (KEPT / path.name, path))
        assert now == kept, f"{path.name} is out of date"


def test_recording_twice_gives_the_same_bytes(once: Path, tmp_path: Path) -> None:
    """No time, no name and no order by chance gets into an archive."""
    record(tmp_path, OURS)

    for path in once.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("name", "rows"), COUNTS.items())
def test_running_our_own_vectors_agrees_in_every_row(name: str, rows: int) -> None:
    """Each kept file is taken by the checker, whole, and nothing differs."""
    found = check_file(KEPT / name, OURS)

    assert found.broken == ()
    assert found.differences == ()
    assert {row.run.stopped_by for row in found.rows} == {None}
    assert len(found.rows) == rows


def test_the_host_matrix_has_every_state_fact_side_and_policy() -> None:
    """Nothing that the host machine can meet is left out, and none is there twice."""
    rows = _rows("host_matrix")
    found = Counter(
        (
            text_at(row, "state"),
            text_at(row, "event_type"),
            text_at(object_at(row, "policy"), "on_health_failure"),
        )
        for row in rows
    )

    assert set(found) == {
        (state.value, f"{side}{fact.__name__}", policy.value)
        for state in HostState
        for side in ("Local", "Remote")
        for fact in get_args(AgentEvent)
        for policy in OnHealthFailure
    }
    cases = Counter(
        (text_at(row, "case"), text_at(row, "event_type"), str(row["policy"])) for row in rows
    )
    assert max(cases.values()) == 1


def test_the_host_matrix_has_exit_codes_of_each_sort() -> None:
    """A switch and a rollback end well and badly, and by a signal."""
    codes: dict[str, set[int]] = {}
    for row in _rows("host_matrix"):
        event = object_at(objects_at(row, "steps")[0], "event")
        if "exit_code" in event:
            kind = text_at(row, "event_type").removeprefix("Local").removeprefix("Remote")
            codes.setdefault(kind, set()).add(number_at(event, "exit_code"))

    assert codes == {
        "ActivationCompleted": {0, 4},
        "ActivationFailed": {1, -9},
        "RollbackComplete": {0, 1},
    }


def _refusals(name: str) -> Iterator[JsonObject]:
    for row in _rows(name):
        for step in objects_at(row, "steps"):
            result = object_at(step, "result")
            if "err" in result:
                yield object_at(result, "err")


def test_the_host_matrix_has_every_refusal_and_every_broken_rule() -> None:
    """All three refusals are there, and each rule of convergence is broken at least once."""
    assert {text_at(each, "kind") for each in _refusals("host_matrix")} == {
        "IllegalForState",
        "SeqRegression",
        "Invariant",
    }
    reasons = {
        getattr(step.answer, "reason", "")
        for vector in map(read_host_vector, _rows("host_matrix"))
        for step in vector.steps
    }
    assert {f"rule {rule}" for rule in ConvergenceRule} <= reasons


def test_the_rollout_matrix_has_every_state_and_event() -> None:
    """Nothing that the rollout machine can meet is left out, an event about another rollout included."""
    found = {(text_at(row, "state"), text_at(row, "event_type")) for row in _rows("rollout_matrix")}

    assert found == {
        (state.value, event.__name__) for state in RolloutState for event in get_args(RolloutEvent)
    }
    kinds = {text_at(each, "kind") for each in _refusals("rollout_matrix")}
    assert kinds == {"IllegalForState", "WrongRollout"}


def _gates(row: JsonObject, host: str) -> list[str]:
    return [
        text_at(action, "gate")
        for action in objects_at(row, "actions")
        if action.get("host") == host and "gate" in action
    ]


@pytest.mark.parametrize("gate", Gate)
def test_each_gate_closed_alone_holds_the_host_by_its_name(gate: Gate) -> None:
    """The plan with one gate closed names that gate for db-01."""
    (row,) = (row for row in _rows("planner_vectors") if row["case"] == gate.value)

    assert _gates(row, "db-01") == [gate.value]


def test_with_two_gates_closed_the_one_asked_first_is_named() -> None:
    """Of each pair of gates the earlier one answers; a host that is in no wave waits for none."""
    never = "wave-promotion and wave-promotion-host-unstaged"
    order = [gate.value for gate in Gate]
    pairs = [row for row in _rows("planner_vectors") if " and " in text_at(row, "case")]
    waiting = [row for row in pairs if "queued" not in text_at(row, "case")]

    assert len(waiting) == len(order) * (len(order) - 1) // 2
    assert {
        case: _gates(row, "db-01")
        for row in waiting
        if _gates(row, "db-01") != [(case := text_at(row, "case")).split(" and ")[0]]
    } == {never: ["wave-promotion-host-unstaged"]}


def test_the_changes_are_one_per_gate_and_each_changes_something() -> None:
    """A new gate needs a scene that closes it."""
    assert list(changes()) == [gate.value for gate in Gate]
    assert all(change(Scene()) != Scene() for change in changes().values())


def test_the_plans_have_every_action() -> None:
    """Rollouts to open, dispatches, deferrals and withdrawals are all among the answers."""
    found = {
        text_at(action, "type")
        for row in _rows("planner_vectors")
        for action in objects_at(row, "actions")
    }

    assert found == {"OpenRollout", "QueueDispatch", "DeferDispatch", "WithdrawDispatch"}


def test_the_wire_vectors_have_every_fact_and_texts_of_both_fates() -> None:
    """Each kind of fact is written, and from outside some texts are taken and some refused."""
    assert {text_at(row, "variant") for row in _rows("wire_vectors")} == {
        fact.__name__ for fact in get_args(AgentEvent)
    }
    fates = Counter(next(iter(object_at(row, "result"))) for row in _rows("wire_parse_vectors"))
    assert min(fates["ok"], fates["err"]) >= len(get_args(AgentEvent))


def test_a_row_from_before_standings_is_read_with_the_same_hosts_excused() -> None:
    """A record that lists `excused_hosts` agrees with one in which these have that standing, before and after."""
    (row,) = (row for row in _rows("rollout_matrix") if row["case"] == "failed: OperatorClearance")
    old = json.loads(json.dumps(row))
    after = old["steps"][0]["result"]["ok"]["state"]
    old["initial"]["excused_hosts"] = [*old["initial"].pop("standings")]
    after["excused_hosts"] = [*after.pop("standings")]

    assert after["excused_hosts"] == ["web-02"]
    assert check_row(old, OURS).run.differences == ()
    after["excused_hosts"] = ["web-01"]
    (difference, *_) = check_row(old, OURS).run.differences
    assert difference.path == "state.standings.web-01"
