"""`nixfleet log fork` and `log shadow`: the fleet as it was at a row, and another policy beside the one in force."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_control_plane.config import load_control_plane_config
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.history.follower import Follower
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import ClearRollout, CommandOutcome
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore, read_log
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.rollout.state import RolloutState
from tests.cli.conftest import Invoke, nixfleet
from tests.engines.scratch import scratch_directory
from tests.engines.small_fleet import Behaviour
from tests.forecast.fleets import TEN, SlowFleet, lived
from tests.forecast.test_backtest import declaration

__all__ = ["nixfleet"]

R3 = RolloutId("stable@r3")


@pytest.fixture(scope="module")
def fleet() -> Iterator[SlowFleet]:
    """Two releases converged; the third failed on its first canary and halted."""
    with scratch_directory() as directory, closing(lived(directory)) as made:
        made.behaviour = Behaviour(
            probe={f"r3-{TEN[0]}": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
        )
        made.publish("r3")
        made.pass_time(minutes=20)
        yield made


def test_a_fork_is_the_fleet_as_it_was(fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke) -> None:
    """The rows up to that one, by the same hashes, with their views; and the original is as before."""
    with closing(open_for_reading(fleet.database)) as connection:
        rows = tuple(read_log(connection))
    seq = next(
        row.seq for row in rows if row.rollout_id == "stable@r2" and row.kind == "agent_events"
    )

    made = nixfleet("log", "fork", fleet.database, "--at", str(seq), "--to", tmp_path / "fork")

    assert made.exit_code == 0, made.output
    database = tmp_path / "fork" / "control-plane.db"
    assert f"the fleet as of row {seq}" in made.output
    with closing(open_for_reading(database)) as connection:
        assert tuple(read_log(connection)) == rows[:seq]
    for command in (("log", "verify"), ("log", "rebuild", "--check"), ("status",)):
        checked = nixfleet(*command, database)
        assert checked.exit_code == 0, checked.output
    with closing(open_for_reading(fleet.database)) as connection:
        assert tuple(read_log(connection)) == rows


def test_a_command_can_be_tried_on_a_fork(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """A control plane starts on it as on any database, and what it does goes nowhere."""
    with closing(open_for_reading(fleet.database)) as connection:
        head = Follower(connection).read_all().head_seq
    nixfleet("log", "fork", fleet.database, "--at", str(head), "--to", tmp_path / "fork")

    with closing(SqliteStore(tmp_path / "fork" / "control-plane.db")) as store:
        engine = ControlPlaneEngine(load_state(store))
        commit = engine.handle(ClearRollout(R3, "ada", "a try"), fleet.now)
        store.commit(commit.writes)
        engine.settle()

    assert commit.reply == CommandOutcome()
    assert fleet.rollout(R3).state is RolloutState.REVERTED


def test_with_a_trust_file_a_fork_has_a_configuration(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """It listens on loopback, and no release is published to it."""
    trust = tmp_path / "trust.json"
    trust.write_bytes(encode_trust_root(fleet.ci.trust))

    made = nixfleet(
        *("log", "fork", fleet.database, "--at", "9", "--to", tmp_path / "fork"),
        *("--trust", trust, "--json"),
    )

    value = json.loads(made.output)
    config = load_control_plane_config(Path(value["config"]), {})
    assert config.store.path == Path(value["database"])
    assert config.listen.host == "127.0.0.1"
    assert not any(config.releases.directory.iterdir())


@pytest.mark.parametrize(("seq", "found"), [("99999", "expected a row from 1 to")])
def test_a_row_that_is_not_there_is_refused_and_leaves_nothing(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke, seq: str, found: str
) -> None:
    """There is no fork of fewer rows than were asked for."""
    refused = nixfleet("log", "fork", fleet.database, "--at", seq, "--to", tmp_path / "fork")

    assert refused.exit_code == 1
    assert found in refused.output
    assert not (tmp_path / "fork").exists()


def test_a_directory_in_use_is_not_touched(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """What is there may be another fork."""
    (tmp_path / "mine").write_text("here")

    refused = nixfleet("log", "fork", fleet.database, "--at", "3", "--to", tmp_path)

    assert refused.exit_code == 2
    assert "does not exist or is empty" in refused.output


def test_a_shadow_says_where_another_policy_would_stand(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """With a tolerance the release would go on."""
    file = declaration(tmp_path, "max_failures = 1")

    shown = nixfleet("log", "shadow", fleet.database, "--policy", file, "--once")

    assert shown.exit_code == 0, shown.output
    assert "stable@r3  would be" in shown.output
    assert "is Reverted at wave 0" in shown.output
    assert "would have begun web-04" in shown.output


def test_a_policy_with_problems_is_refused_before_the_log_is_read(
    tmp_path: Path, nixfleet: Invoke
) -> None:
    """Also where the log has no row yet: a shadow may run for weeks."""
    database, file = tmp_path / "control-plane.db", tmp_path / "fleet.toml"
    SqliteStore(database).close()
    file.write_text("[channels.stable]\n")

    refused = nixfleet("log", "shadow", database, "--policy", file, "--once")

    assert refused.exit_code == 1
    assert f"{file}" in refused.output


def test_a_shadow_of_the_same_policy_says_nothing(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """There is no difference to tell."""
    same = nixfleet(
        *("log", "shadow", fleet.database, "--policy", declaration(tmp_path), "--once", "--json")
    )

    assert (same.exit_code, same.output) == (0, "")
