"""`nixfleet log show` of an agent's journal, and what its host waits for at each stage."""

import json
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_agent.engine.state import LocalRollout
from nixfleet_agent.journal.journal import JournalSnapshot, SqliteJournal
from nixfleet_agent.journal.queries import LivedFact
from nixfleet_agent.messages.inputs import Intent, IntentKind
from nixfleet_agent.messages.writes import AppendEvent, MarkRefused
from nixfleet_cli.journals.standing import Standing, standing_of
from nixfleet_proto.agent_event import (
    ActivationStarted,
    AgentEvent,
    OnHealthFailure,
    Postponed,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeTopologyEntry,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from tests.agent.lone_agent import T0
from tests.cli.conftest import Invoke

R1, R2 = RolloutId("stable@r1"), RolloutId("stable@r2")
PENDING = HostRolloutState.pending(R2, "web-01", "stable", "r2-web-01", T0, T0)
RAN = evolve(
    PENDING,
    rollout_id=R1,
    state=HostState.CONVERGED,
    current_closure="r1-web-01",
    dispatched_at=T0 - timedelta(hours=1),
)
SWITCH = Intent(1, IntentKind.SWITCH, R2, "r2-web-01")


def later(minutes: int) -> datetime:
    """A time after T0."""
    return T0 + timedelta(minutes=minutes)


def probed(status: ProbeStatus, minutes: int) -> ProbeResult:
    """A result of an enforce probe."""
    return ProbeResult("alive", ProbeMode.ENFORCE, status, later(minutes), seq=1)


def standing(
    record: HostRolloutState, *facts: AgentEvent, intent: Intent | None = None
) -> Standing:
    """How a host stands that ran r1 and is in r2 as `record` says."""
    rollouts = (LocalRollout(RAN, RolloutPolicy(), T0), LocalRollout(record, RolloutPolicy()))
    intents = () if intent is None else (intent,)
    snapshot = JournalSnapshot(rollouts, intents, 1, None, (), FrozenMap())
    lived = (LivedFact(row, R2, fact, T0, True, None) for row, fact in enumerate(facts))
    found = standing_of(snapshot, lived)
    assert found is not None
    return found


def test_each_stage_says_what_it_waits_for() -> None:
    """In words, with times where there are some."""
    postponed = Postponed(T0, "a call", later(30), 1)
    over = Postponed(later(20), "the lock lets it begin", later(20), 2)
    soaking = evolve(PENDING, state=HostState.SOAKING, soak_due_at=later(9))
    probes = (ProbeTopologyEntry("alive", "exec", ProbeMode.ENFORCE),)
    declared = evolve(soaking, declared_probes=probes)
    failed = evolve(PENDING, state=HostState.FAILED, policy_applied=OnHealthFailure.HALT)
    rolls_back = evolve(
        failed,
        policy_applied=OnHealthFailure.ROLLBACK_AND_HALT,
        current_closure_at_dispatch="r1-web-01",
    )
    activating = evolve(PENDING, state=HostState.ACTIVATING, activation_started_at=later(1))
    begun = evolve(SWITCH, attempts=2)
    soak = "the soak until 2026-05-16 01:09:00Z"
    found = {
        "pending": standing(PENDING),
        "locked": standing(PENDING, postponed),
        "let go": standing(PENDING, postponed, over),
        "to switch": standing(activating, intent=SWITCH),
        "switching": standing(activating, intent=begun),
        "deferred": standing(evolve(PENDING, state=HostState.DEFERRED)),
        "unprobed": standing(declared),
        "failing": standing(declared, probed(ProbeStatus.FAIL, 2), probed(ProbeStatus.FAIL, 3)),
        "passing": standing(declared, probed(ProbeStatus.FAIL, 2), probed(ProbeStatus.PASS, 3)),
        "converged": standing(evolve(soaking, state=HostState.CONVERGED)),
        "failed": standing(failed),
        "to roll back": standing(rolls_back),
    }
    assert {name: each.waits_for for name, each in found.items()} == {
        "pending": "the dispatch, which is not acknowledged yet",
        "locked": "its own lock, until 2026-05-16 01:30:00Z: a call",
        "let go": "the dispatch, which is not acknowledged yet",
        "to switch": "the switch to begin: its closure is not here, or another switch is under way",
        "switching": "the end of the switch since 2026-05-16 01:01:00Z, begun 2 times",
        "deferred": "a reboot, at which the switch takes place",
        "unprobed": f"the first result of probe alive; {soak}",
        "failing": f"probe alive, which fails since 2026-05-16 01:02:00Z; {soak}",
        "passing": soak,
        "converged": None,
        "failed": "an operator or another release, as it has failed (policy: halt)",
        "to roll back": "the rollback to r1-web-01, as it has failed",
    }


def test_a_rollout_that_has_not_begun_says_nothing_of_what_runs() -> None:
    """The one before does."""
    assert standing(PENDING).runs == "r1-web-01"
    assert standing(evolve(PENDING, current_closure_at_dispatch="by hand")).runs == "by hand"


@pytest.fixture
def journal(files: Path) -> Path:
    """web-01's: r1 converged and was superseded by r2, which was reverted; all is acknowledged."""
    return files / "web-01.sqlite"


def test_the_story_of_a_host_is_told_in_the_words_of_the_log(
    nixfleet: Invoke, journal: Path, database: Path
) -> None:
    """Each fact as the control plane tells it; what only repeats is left out, and said to be."""
    shown = nixfleet("log", "show", journal)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0] == (
        "    1  2026-05-16 01:00:30Z  stable@r1         accepts the dispatch; runs release-0"
    )
    assert lines[-1].endswith("stable@r2         has rolled back to r1-web-01")
    assert "repeated probe results left out" in shown.stderr
    every = nixfleet("log", "show", journal, "--all").stdout
    assert len(every.splitlines()) == 27
    told = nixfleet("log", "show", database, "--host", "web-01", "--all", "--json").stdout
    texts = [json.loads(line) for line in told.splitlines()]
    ours = nixfleet("log", "show", journal, "--all", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in ours] == [
        each["text"] for each in texts if each["actor"] == "web-01"
    ]


def test_what_is_not_sent_and_what_was_refused_is_marked(nixfleet: Invoke, journal: Path) -> None:
    """With the reason of the refusal, also in JSON."""
    with closing(SqliteJournal(journal)) as written:
        facts = [AppendEvent(R2, ActivationStarted(T0, "directory", seq), T0) for seq in (90, 91)]
        written.commit(facts)
        (refused, _) = written.unsent(10)
        written.commit([MarkRefused(refused.row_id, "breaks\na rule")])
    shown = nixfleet("log", "show", journal, "--rollout", "stable@r2", "--after", "27").stdout
    assert [line.partition("(method: directory)")[2] for line in shown.splitlines()] == [
        r" (refused by the control plane: breaks\x0aa rule)",
        " (not sent yet)",
    ]
    values = nixfleet("log", "show", journal, "--after", "27", "--json").stdout.splitlines()
    assert [json.loads(line)["delivery"] for line in values] == ["refused", "waiting"]


def test_a_rollout_or_host_that_the_journal_does_not_have_is_refused(
    nixfleet: Invoke, journal: Path
) -> None:
    """By name, with those it has."""
    refused = nixfleet("log", "show", journal, "--rollout", "stable@r9")
    assert refused.exit_code == 1
    assert "stable@r9" in refused.stderr
    other = nixfleet("log", "show", journal, "--host", "web-02")
    assert (other.exit_code, "web-01" in other.stderr) == (1, True)
    assert nixfleet("log", "show", journal, "--host", "web-01").exit_code == 0


def test_the_configuration_of_an_agent_leads_to_its_journal(
    nixfleet: Invoke, journal: Path, tmp_path: Path
) -> None:
    """The other files that it names need not be there."""
    config = tmp_path / "agent.toml"
    config.write_text(f'hostname = "web-01"\n[journal]\npath = "{journal}"\n[trust]\nfile = "x"\n')
    for command in (("status",), ("log", "show")):
        by_path = nixfleet(*command, journal)
        assert nixfleet(*command, "--config", config).stdout == by_path.stdout
    config.write_text("[journal]\n")
    assert "journal.path: missing" in nixfleet("status", "--config", config).stderr
