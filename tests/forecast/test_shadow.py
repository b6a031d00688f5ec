"""A policy beside a log that grows: what is kept of it, and that it stands where a whole play stands."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_cli.commands.logs.backtest import read_policy
from nixfleet_cli.shared.other_policies import Revision
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_forecast.backtest.shadow import Shadow, differences
from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_runtime.kernel.zones import SystemZones
from tests.engines.likeness import likeness
from tests.engines.scratch import scratch_directory
from tests.engines.small_fleet import Behaviour
from tests.forecast.fleets import TEN, SlowFleet, lived
from tests.forecast.recorded import played
from tests.forecast.test_backtest import declaration


@pytest.fixture
def fleet() -> Iterator[SlowFleet]:
    """A fleet on which two releases converged."""
    with scratch_directory() as directory, closing(lived(directory)) as made:
        yield made


def rows_of(fleet: SlowFleet, after_seq: int = 0) -> list[LogRow]:
    with closing(open_for_reading(fleet.database)) as connection:
        return list(read_log(connection, after_seq))


def made_shadow() -> Shadow:
    return Shadow(Replay(), Replay(), SystemZones())


def take(shadow: Shadow, fleet: SlowFleet) -> None:
    """Let the shadow read what came."""
    for row in rows_of(fleet, shadow.head_seq):
        shadow.take(row)


def test_nothing_is_kept_of_rollouts_that_ended(fleet: SlowFleet, tmp_path: Path) -> None:
    """And of one that is under way the rows from its publication on."""
    shadow = made_shadow()
    take(shadow, fleet)
    revision = Revision(tmp_path, read_policy(declaration(tmp_path)))
    assert shadow.differences(revision) == ()
    assert shadow.rows_kept == 0

    published = shadow.head_seq
    fleet.publish("r3")
    fleet.pass_time(minutes=2)
    take(shadow, fleet)
    assert shadow.differences(revision) == ()
    assert shadow.rows_kept == shadow.head_seq - published

    fleet.pass_time(minutes=30)
    take(shadow, fleet)
    assert shadow.differences(revision) == ()
    assert shadow.rows_kept == 0


def test_a_shadow_that_went_on_stands_where_a_whole_play_stands(
    fleet: SlowFleet, tmp_path: Path
) -> None:
    """Looked at every few minutes, with a halt, and with the rollout that the other policy lets go on."""
    file = declaration(tmp_path, "max_failures = 1")
    fleet.behaviour = Behaviour(
        probe={f"r3-{TEN[0]}": ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")}
    )
    shadow = made_shadow()
    fleet.publish("r3")
    texts = list[set[str]]()
    for _ in range(10):
        fleet.pass_time(minutes=3)
        take(shadow, fleet)
        found = shadow.differences(Revision(file, read_policy(file)))
        whole = made_shadow()
        take(whole, fleet)
        assert found == whole.differences(Revision(file, read_policy(file)))
        texts.append({it.text for it in found})

    assert any("is Reverted at wave 0" in text for text in texts[-1])
    ends = {
        it.text
        for it in differences(
            played(fleet.database), played(fleet.database, Revision(file, read_policy(file)))
        )
        if it.rollout_id == "stable@r3"
    }
    # A whole play looks 30 days ahead; the shadow stands where the log does.
    assert {text for text in ends if "begun" in text} >= {
        text for text in texts[-1] if "begun" in text
    }


def test_a_look_leaves_the_states_as_they_are(fleet: SlowFleet, tmp_path: Path) -> None:
    """What was played is taken back, so that the next look begins from the same."""
    base, head = Replay(), Replay()
    shadow = Shadow(base, head, SystemZones())
    fleet.publish("r3")
    fleet.pass_time(minutes=2)
    take(shadow, fleet)
    file = declaration(tmp_path, "max_failures = 1")
    first = shadow.differences(Revision(file, read_policy(file)))
    before = likeness(base.state), likeness(head.state)

    second = shadow.differences(Revision(file, read_policy(file)))

    assert (likeness(base.state), likeness(head.state)) == before
    assert first == second
