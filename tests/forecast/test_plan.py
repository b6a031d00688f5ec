"""`nixfleet release plan`: how a release would go that is not published."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_proto.codec import format_time
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import SignedArtefact
from nixfleet_release.publish.save import save_release
from nixfleet_runtime.http.forecasts import FORECAST, Span
from nixfleet_runtime.releases.directory import Release
from nixfleet_state_machine.rollout.state import RolloutState
from tests.cli.conftest import Invoke, nixfleet
from tests.engines.releases import Layout
from tests.engines.scratch import scratch_directory
from tests.forecast.fleets import TEN, TWO_WAVES, SlowFleet, lived

__all__ = ["nixfleet"]


@pytest.fixture
def fleet() -> Iterator[SlowFleet]:
    """A fleet on which two releases converged."""
    with scratch_directory() as directory, closing(lived(directory)) as made:
        yield made


def _made(fleet: SlowFleet, channel_ref: str, directory: Path, layout: Layout = TWO_WAVES) -> Path:
    release = fleet.ci.release(layout, channel_ref, fleet.now)
    manifests = {
        it.value.rollout_id: SignedArtefact(it.artefact, it.signature) for it in release.manifests
    }
    signed = SignedArtefact(release.fleet.artefact, release.fleet.signature)
    directory.mkdir()
    save_release(Release(signed, FrozenMap(manifests)), directory)
    return directory


def test_a_release_ends_within_the_range_that_was_planned(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """It is published afterwards, and goes as the plan said."""
    directory = _made(fleet, "r3", tmp_path / "r3")
    now = format_time(fleet.now)
    head = fleet.database.stat().st_size

    shown = nixfleet("release", "plan", directory, fleet.database, "--at", now, "--json")

    assert shown.exit_code == 0, shown.output
    value = json.loads(shown.output)
    radius = value.pop("blastRadius")
    assert radius["stable@r3"]["hosts"] == 10
    forecast = FORECAST.of_json(value)
    (rollout,) = forecast.rollouts
    assert rollout.rollout_id == "stable@r3"
    first = rollout.waves[0]
    assert first.began_at is None
    assert first.begins == Span(forecast.runs, fleet.now, fleet.now, fleet.now)
    assert rollout.done.p10 is not None
    assert rollout.done.p90 is not None
    assert fleet.database.stat().st_size == head

    rollout_id = fleet.publish("r3")
    while fleet.rollout(rollout_id).state is not RolloutState.TERMINAL:
        fleet.pass_time(minutes=0.5)
    assert rollout.done.p10.timestamp() - 60 <= fleet.now.timestamp()
    assert fleet.now.timestamp() <= rollout.done.p90.timestamp() + 60


def test_a_declaration_is_planned_by_a_ref(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """Nothing is built: its hosts get closures that do not exist."""
    file = tmp_path / "fleet.toml"
    hosts = "\n".join(f'[hosts.{host}]\nchannel = "stable"' for host in TWO_WAVES.hosts)
    file.write_text(
        f'{hosts}\n[channels.stable]\npolicy = "all"\n[policies.all]\non_health_failure = "halt"\n'
        '[[policies.all.waves]]\nselector = { hosts = ["web-01"] }\nsoak_minutes = 5\n'
        "[[policies.all.waves]]\nrest = true\n"
    )

    shown = nixfleet(
        "release", "plan", file, fleet.database, "--ref", "r3", "--at", format_time(fleet.now)
    )

    assert shown.exit_code == 0, shown.output
    assert shown.output.count("at worst") == 1
    assert "stable@r3: at worst" in shown.output
    assert f"wave 0 (1 host): begins {fleet.now:%Y-%m-%d %H:%MZ}, ends between" in shown.output
    assert "wave 1 (9 hosts): begins between" in shown.output


def test_a_first_release_is_planned_without_ranges(tmp_path: Path, nixfleet: Invoke) -> None:
    """Nothing was observed, but what begins at once is known, and it has not begun."""
    with scratch_directory() as directory, closing(lived(directory, releases=0)) as fleet:
        made = _made(fleet, "r1", tmp_path / "r1")
        now = f"{fleet.now:%Y-%m-%d %H:%MZ}"

        shown = nixfleet("release", "plan", made, fleet.database, "--at", format_time(fleet.now))

    assert shown.exit_code == 0, shown.output
    assert "when it ends is not known" in shown.output
    assert f"wave 0 (3 hosts): begins {now}, ends at no known time" in shown.output


def test_a_host_of_a_plan_was_not_dispatched(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """The last one of the first wave is named as what it is: nothing was published."""
    canary = evolve(TWO_WAVES, waves=(TEN[:1], TEN[1:]))
    directory = _made(fleet, "r3", tmp_path / "r3", canary)

    shown = nixfleet("release", "plan", directory, fleet.database, "--at", format_time(fleet.now))

    assert shown.exit_code == 0, shown.output
    assert f"{TEN[0]}: it is Pending; converges" in shown.output


def test_a_release_that_is_published_is_not_planned(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """What it does is forecast, not planned."""
    directory = _made(fleet, "r2", tmp_path / "r2")

    refused = nixfleet("release", "plan", directory, fleet.database)

    assert refused.exit_code == 1
    assert "found stable@r2, which the log has" in refused.output


def test_what_is_no_release_is_named(fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke) -> None:
    """A declaration needs the ref besides."""
    refused = nixfleet("release", "plan", tmp_path, fleet.database)

    assert refused.exit_code == 2
    assert "of a declaration, give the --ref as well" in refused.output


def test_a_plan_waits_for_the_release_before_it_as_the_fleet_does(
    fleet: SlowFleet, tmp_path: Path, nixfleet: Invoke
) -> None:
    """It supersedes what is under way, and hosts that are in flight keep their slots."""
    fleet.publish("r3", evolve(TWO_WAVES, max_in_flight=2))
    fleet.pass_time(minutes=1)
    directory = _made(fleet, "r4", tmp_path / "r4", evolve(TWO_WAVES, max_in_flight=2))

    shown = nixfleet(
        "release", "plan", directory, fleet.database, "--at", format_time(fleet.now), "--json"
    )

    value = json.loads(shown.output)
    assert [it["rolloutId"] for it in value["rollouts"]] == ["stable@r4"]
