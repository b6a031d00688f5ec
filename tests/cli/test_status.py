"""`nixfleet status`: one moment of a control plane."""

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from attrs import evolve

from nixfleet_cli.shared.output import section, shown_time
from nixfleet_control_plane.messages.inputs import (
    ArtefactRejected,
    ClearRollout,
    PauseScope,
    PlanTick,
    RetireQuarantine,
)
from nixfleet_control_plane.store.database_format import DATABASE_FORMAT
from nixfleet_proto.agent_event import ActivationStarted
from nixfleet_proto.codec import format_time
from nixfleet_proto.fleet import Ramp, Selector
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind, Repeat
from nixfleet_state_machine.planner.holds.scope import ChannelScope
from tests.cli.conftest import Invoke
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost
from tests.engines.small_fleet import SmallFleet


def test_a_halted_rollout_is_shown_with_who_waits_and_what_is_quarantined(
    nixfleet: Invoke, database: Path
) -> None:
    """Rollouts come with their hosts by state; waiting hosts with gate and reason; quarantines with their row."""
    shown = nixfleet("status", database, "--at", "2026-05-16T02:15:00Z")

    assert shown.exit_code == 0, shown.output
    quarantined_by = next(
        line.split()[0]
        for line in nixfleet("log", "show", database).stdout.splitlines()
        if "is quarantined" in line
    )
    rows = json.loads(nixfleet("log", "verify", database, "--json").stdout)["rows"]
    log = json.loads(nixfleet("status", database, "--json").stdout)["log"]
    assert log["rows"] == rows
    assert log["neededBy"].startswith("fleet.resolved.json#")
    reason = "rollout-halted: rollout stable@r2 is halted until an operator clears it"
    assert shown.stdout == (
        "rollouts\n"
        "  stable@r1  Superseded  wave 1 of 0–1  3 Converged\n"
        "  stable@r2  Reverted    wave 0 of 0–1  2 Pending, 1 Reverted\n"
        "\n"
        "waves\n"
        "  stable@r2  wave 0  broken   0 of 1 converged  1 failed of 0 allowed\n"
        "  stable@r2  wave 1  waiting  0 of 2 converged  0 failed of 0 allowed\n"
        "\n"
        "budgets\n"
        "  none\n"
        "\n"
        "overdue\n"
        "  none\n"
        "\n"
        "waiting\n"
        f"  web-02  stable@r2  {reason}  since 2026-05-16 01:17:00Z\n"
        f"  web-03  stable@r2  {reason}  since 2026-05-16 01:17:00Z\n"
        "\n"
        "drifted\n"
        "  none\n"
        "\n"
        "quarantined\n"
        f"  stable  r2-web-01  since 2026-05-16 01:17:00Z  log row {quarantined_by}\n"
        "\n"
        "held by operators\n"
        "  none\n"
        "\n"
        "held until\n"
        "  none\n"
        "\n"
        "refused events\n"
        "  none\n"
        "\n"
        "in force\n"
        "  stable  stable@r2  signed 2026-05-16 01:15:00Z  stale in 2.0 h\n"
        "\n"
        "refused releases\n"
        "  none\n"
        "\n"
        f"the log has {rows} rows, from row 1 of 2026-05-16 01:00:00Z on\n"
        f"the first row that has to stay is 1, for {log['neededBy']}\n"
        f"version {DATABASE_FORMAT.version} of the file; it is not known which program wrote it\n"
    )


def test_a_refused_release_is_shown_until_another_is_in_force(
    nixfleet: Invoke, fleet: SmallFleet
) -> None:
    """What is in force ages meanwhile, which is said with the seconds since it is stale."""
    fleet.ask(ArtefactRejected("rollouts/stable@r1.json", "it was superseded"))

    shown = nixfleet("status", fleet.database, "--at", "2026-05-16T04:16:01Z").stdout
    fleet.wait(minutes=1)
    fleet.publish("r3")
    later = nixfleet("status", fleet.database).stdout

    assert "stale" not in shown.partition("in force")[0]
    assert "STALE for 1 s: sign again" in shown
    assert "  rollouts/stable@r1.json  since " in shown
    assert "it was superseded" not in later


def test_what_operators_did_is_shown(nixfleet: Invoke, fleet: SmallFleet) -> None:
    """Holds come with who and why; excused hosts and retired quarantines are marked."""
    fleet.command(PauseScope(ChannelScope("stable"), "ada", "a holiday"))
    fleet.command(ClearRollout(RolloutId("stable@r2"), "ada", "known"))
    fleet.command(RetireQuarantine("stable", "r2-web-01", "ada", "it was the network"))

    lines = nixfleet("status", fleet.database).stdout.splitlines()

    assert "  stable  ada  a holiday" in lines
    assert any(line.endswith("2 Pending, 1 Reverted (1 excused)") for line in lines)
    assert any(line.endswith("retired by an operator") for line in lines)


def test_a_wave_with_a_signed_time_is_shown_until_then(nixfleet: Invoke, fleet: SmallFleet) -> None:
    """Also one that no plan of this process held: it follows from the manifest and the time."""
    begins = fleet.now + timedelta(hours=1)
    fleet.publish("r3", evolve(fleet.layout, not_before=(begins, None)))

    at = ("--at", format_time(fleet.now))
    shown = nixfleet("status", fleet.database, *at).stdout
    later = nixfleet("status", fleet.database, "--at", format_time(begins)).stdout
    (value,) = json.loads(nixfleet("status", fleet.database, *at, "--json").stdout)["heldUntil"]

    held = f"not-before    until {shown_time(begins)}  wave 0 of stable@r3 begins not before"
    assert held in shown
    assert held not in later
    assert (value["kind"], value["until"]) == ("not-before", format_time(begins))


def test_a_window_whose_end_is_not_in_sight_is_shown(nixfleet: Invoke, fleet: SmallFleet) -> None:
    """It came for the last time: nobody lifts that, and no time ends it."""
    over = CalendarEntry(
        "nights",
        CalendarKind.ALLOW,
        Selector(all=True),
        "UTC",
        "people sleep",
        repeat=Repeat.DAILY,
        start="22:00",
        minutes=60,
        until="2020-01-01",
    )
    fleet.publish("r3", evolve(fleet.layout, calendar=(over,)))
    shown = nixfleet("status", fleet.database).stdout
    values = json.loads(nixfleet("status", fleet.database, "--json").stdout)["heldUntil"]

    assert (
        "  stable  window  nights  no end in sight  with no end in sight: people sleep\n" in shown
    )
    assert [(each["kind"], each["until"]) for each in values] == [("window", None)]


def test_hosts_are_as_new_as_the_log_though_their_table_lags(
    nixfleet: Invoke, fleet: SmallFleet
) -> None:
    """Hosts are counted by what the log says; the table of their records is written behind."""
    fleet.store.close()
    fleet.start_control_plane()
    fleet.publish("r3")
    for agent in fleet.agents.values():
        fleet.poll(agent)
        fleet.send(agent)

    shown = nixfleet("status", fleet.database)

    assert "stable@r3  Active      wave 0 of 0–1  2 Pending, 1 Soaking" in shown.stdout


def test_a_pruned_rollout_is_remembered_without_its_hosts(
    nixfleet: Invoke, fleet: SmallFleet
) -> None:
    """After its retention a rollout's row is left, and says that its hosts are not."""
    fleet.now += timedelta(
        hours=72, minutes=-4
    )  # r1 was superseded five minutes ago, r2 is younger
    fleet.ask(PlanTick())

    shown = nixfleet("status", fleet.database)

    assert "stable@r1  Pruned" in shown.stdout
    assert "host records pruned" in shown.stdout


def test_an_empty_control_plane_has_nothing_to_show(nixfleet: Invoke, fleet: SmallFleet) -> None:
    """A database in which nothing has happened yet is shown as that."""
    fleet.destroy_control_plane()

    shown = nixfleet("status", fleet.database)

    assert (shown.exit_code, shown.stdout.count("none")) == (0, 12)


def test_an_event_that_was_refused_is_shown_with_the_rule(
    nixfleet: Invoke, fleet: SmallFleet
) -> None:
    """A host's fact that did not apply is there, with its number and what it broke."""
    record = fleet.mirrored(RolloutId("stable@r2"), "web-02")
    fleet.hear("web-02", record.rollout_id, ActivationStarted(fleet.now, "directory", seq=1))

    lines = nixfleet("status", fleet.database).stdout.splitlines()

    assert any(
        line.startswith("  web-02  stable@r2  seq 1  ActivationStarted is not legal from Pending")
        for line in lines
    )


def test_a_long_list_is_cut_and_the_rest_is_counted() -> None:
    """The first ones, and how many more there are; a list that fits is whole."""
    rows = [(f"web-{number:02}",) for number in range(1, 13)]
    shown = tuple(section("refused events", rows, 10))
    assert shown[0] == "refused events"
    assert [line.strip() for line in shown[-2:]] == ["web-10", "and 2 more (all are in --json)"]
    assert tuple(section("refused events", rows, 12))[-1].strip() == "web-12"


def test_budgets_are_shown_with_the_slots_that_are_taken_and_what_gives_more(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """How many slots there are now, how many hosts must converge for more, and when a minute is over."""
    layout = Layout(waves=(("web-01", "web-02"),), ramp=Ramp(1, 2), max_per_minute=2)
    with closing(ScriptedControlPlane(tmp_path, layout)) as control_plane:
        control_plane.publish("r1")

    text = nixfleet("status", control_plane.database).stdout
    shown = json.loads(nixfleet("status", control_plane.database, "--json").stdout)

    assert (
        "budgets\n"
        "  stable@r1  all  1 of 2 in flight, "
        "1 of 1 slots of the ramp taken (1 more must converge for more), "
        "1 of 2 begun within a minute (the next slot at 2026-05-16 01:01:00Z)\n"
    ) in text
    assert shown["rollouts"][0]["budgets"] == [
        {
            "budget": "all",
            "inFlight": 1,
            "limit": 2,
            "underWay": 1,
            "slots": 1,
            "convergeToGrow": 1,
            "begun": 1,
            "maxPerMinute": 2,
            "returnsAt": "2026-05-16T01:01:00Z",
        }
    ]


def test_a_pruned_rollout_whose_channel_still_names_it_is_shown(
    nixfleet: Invoke, tmp_path: Path
) -> None:
    """Its manifest is in force, and its hosts have no records any more."""
    with closing(ScriptedControlPlane(tmp_path, Layout(waves=(("web-01",),), edges=()))) as plane:
        ScriptedHost(plane, plane.publish("r1"), "web-01").finish()
        plane.wait(minutes=7 * 24 * 60)
        plane.tick()
        plane.flush()
    shown = nixfleet("status", plane.database)
    assert shown.exit_code == 0, shown.output
    assert "stable@r1  Pruned    host records pruned" in shown.stdout
