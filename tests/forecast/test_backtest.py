"""What other policies would have done: the law of the recorded one, and what a changed one changes."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_cli.shared.other_policies import Revision
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_forecast.backtest.backtest import BackTest, RolloutCourse
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.ids import RolloutId
from nixfleet_release import check
from nixfleet_state_machine.rollout.state import RolloutState
from tests.cli.conftest import Invoke, nixfleet
from tests.cli.test_json import require_json
from tests.engines.scratch import scratch_directory
from tests.engines.small_fleet import Behaviour
from tests.forecast.fleets import TEN, TWO_WAVES, SlowFleet, lived
from tests.forecast.recorded import played, played_ends, recorded_ends
from tests.forecast.worlds import world_of

__all__ = ["nixfleet"]

R3 = RolloutId("stable@r3")
# Found on the way: a signed time without a row, a waived bake, a lapse that an outage of the control plane outlived.
SEEDS = (2, 7, 12, 76, 106)


@pytest.mark.parametrize("seed", SEEDS)
def test_under_the_recorded_policy_every_rollout_ends_when_it_did(seed: int) -> None:
    """Whatever faults, commands, windows and restarts a life had: the same engine is told the same."""
    with world_of(seed) as database:
        recorded = recorded_ends(database)
        again = played(database)

    ends = played_ends(again)
    assert {it: ends.get(it) for it in recorded} == {it: at for it, (_, at) in recorded.items()}
    assert again.invented == 0


@pytest.fixture(scope="module")
def fleet() -> Iterator[SlowFleet]:
    """Two releases converged; the third failed on its first canary, halted, and was not cleared."""
    with scratch_directory() as directory:
        made = lived(directory)
        with closing(made):
            made.behaviour = Behaviour(
                probe={f"r3-{TEN[0]}": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
            )
            made.publish("r3")
            made.pass_time(minutes=45)
            assert made.rollout(R3).state is RolloutState.REVERTED
            yield made


def declaration(
    directory: Path, policy: str = "", soak: int = 5, hosts: tuple[str, ...] = TEN
) -> Path:
    """Return a file with the fleet's declaration, under another policy."""
    lines = [
        *(f'[hosts.{host}]\nchannel = "stable"\n' for host in hosts),
        '[channels.stable]\npolicy = "canary-first"\n',
        '[policies.canary-first]\non_health_failure = "rollback-and-halt"',
        policy,
        "[[policies.canary-first.waves]]",
        f"selector = {{ hosts = {list(TEN[:3])} }}".replace("'", '"'),
        f"soak_minutes = {soak}",
        "[[policies.canary-first.waves]]",
        f"rest = true\nsoak_minutes = {soak}",
    ]
    file = directory / "fleet.toml"
    file.write_text("\n".join(lines))
    return file


def _under(fleet: SlowFleet, file: Path) -> BackTest:
    return played(fleet.database, Revision(file, check(file)))


def _course(played: BackTest, rollout_id: str) -> RolloutCourse:
    return next(it for it in played.rollouts if it.rollout_id == rollout_id)


def test_the_same_policy_from_a_declaration_gives_the_same(
    fleet: SlowFleet, tmp_path: Path
) -> None:
    """The artefacts are made anew, and nothing is different."""
    again = _under(fleet, declaration(tmp_path))

    assert again.rollouts == played(fleet.database).rollouts
    assert {it: at for it, (_, at) in recorded_ends(fleet.database).items()} == played_ends(again)


def test_with_a_tolerance_the_release_goes_on_and_harms_as_many(
    fleet: SlowFleet, tmp_path: Path
) -> None:
    """Hosts that no dispatch reached are taken to succeed, and counted."""
    recorded = _course(played(fleet.database), R3)
    tolerant = _under(fleet, declaration(tmp_path, "max_failures = 1"))
    course = _course(tolerant, R3)

    assert recorded.state is RolloutState.REVERTED
    assert course.state is RolloutState.TERMINAL
    assert course.harmed == recorded.harmed == {TEN[0]}
    assert tolerant.invented == 7


def test_a_longer_soak_takes_as_much_longer_and_no_more(fleet: SlowFleet, tmp_path: Path) -> None:
    """Two waves of five minutes more each; what hosts took besides stays."""
    before, after = (
        _course(each, "stable@r2")
        for each in (played(fleet.database), _under(fleet, declaration(tmp_path, soak=10)))
    )

    assert before.took is not None
    assert after.took is not None
    assert abs(after.took - before.took - timedelta(minutes=10)) < timedelta(minutes=3)
    assert after.harmed == before.harmed == set()


def test_a_host_that_converged_before_it_fails_regresses(fleet: SlowFleet, tmp_path: Path) -> None:
    """The failure keeps its distance from the dispatch, also where the soak ends earlier."""
    course = _course(_under(fleet, declaration(tmp_path, soak=1)), R3)

    assert course.harmed == {TEN[0]}


def test_hosts_that_wait_for_an_approval_wait_until_a_person_gives_it(
    fleet: SlowFleet, tmp_path: Path
) -> None:
    """None was recorded, and none is invented."""
    text = declaration(tmp_path).read_text()
    guarded = text.replace("rest = true", 'rest = true\napprovals = { count = 1, from = ["ada"] }')
    file = tmp_path / "guarded.toml"
    file.write_text(guarded)

    asked = _under(fleet, file)

    assert _course(asked, "stable@r1").state is RolloutState.SUPERSEDED
    assert _course(asked, R3).ended_at is not None


def test_policies_are_shown_side_by_side(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """The recorded one first; with what is assumed."""
    file = declaration(tmp_path, "max_failures = 1")

    shown = nixfleet("log", "backtest", fleet.database, "--policy", file)
    (value,) = require_json(
        "log backtest", nixfleet("log", "backtest", fleet.database, "--policy", file, "--json")
    )

    assert shown.exit_code == 0, shown.output
    assert "recorded" in shown.output
    assert "assumed: a host fails as long after its dispatch as it did" in shown.output
    policies = value["policies"]
    assert isinstance(policies, list)
    assert [it["harmed"] for it in policies] == [1, 1]
    assert [it["takenToSucceed"] for it in policies] == [0, 7]


def test_a_policy_of_another_fleet_is_refused_by_name(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """A fleet without the hosts of the log says nothing about it."""
    file = declaration(tmp_path, hosts=TEN[:5])

    refused = nixfleet("log", "backtest", fleet.database, "--policy", file)

    assert refused.exit_code == 1
    assert (
        f"{file}: expected a declaration of the fleet of this log, found no host web-"
        in refused.output
    )


def test_an_outage_keeps_its_place_by_the_wall_clock(tmp_path: Path) -> None:
    """A host that was away answers when it came back, whenever it was dispatched before."""
    with scratch_directory() as directory, closing(lived(directory)) as fleet:
        fleet.publish("r3", evolve(TWO_WAVES, soak_minutes=30))
        fleet.away(TEN[9])
        fleet.pass_time(minutes=120)
        fleet.back(TEN[9])
        back_at = fleet.now
        fleet.pass_time(minutes=60)
        soon = _course(_under(fleet, declaration(tmp_path, soak=1)), R3)

    assert soon.ended_at is not None
    assert back_at < soon.ended_at < back_at + timedelta(minutes=10)


def test_a_log_without_a_row_has_nothing_to_play(tmp_path: Path, nixfleet: Invoke) -> None:
    """A control plane that was started and never had a release."""
    database = tmp_path / "control-plane.db"
    SqliteStore(database).close()

    shown = nixfleet("log", "backtest", database, "--policy", declaration(tmp_path), "--json")

    (value,) = require_json("log backtest", shown)
    assert isinstance(value["policies"], list)
    assert [it["rollouts"] for it in value["policies"]] == [[], []]
