"""A wave begins when the wave before it is done and its guards are satisfied, and not before."""

from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.history.approvals import check_approvals
from nixfleet_control_plane.messages.inputs import (
    CheckQuestion,
    CommandOutcome,
    Done,
    ExcuseHosts,
    GiveApproval,
    PlanTick,
    ReportVerdict,
)
from nixfleet_control_plane.messages.log_entry import RolloutMoved
from nixfleet_proto.codec import decode_approval
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, RolloutPolicy
from nixfleet_proto.signing import SigningKey, artefact_hash, sign_approval, verify_approval
from nixfleet_proto.steering.approval import Approval, Decision, SignedApproval
from nixfleet_proto.steering.guards import Approvals, Check, WaveGuards
from nixfleet_proto.trust import Operator, OperatorRole
from nixfleet_state_machine.host.effect import EmitMetric
from nixfleet_state_machine.rollout.event import (
    GuardsOpened,
    RolloutEvent,
    Verdict,
    WaveAdvanced,
    WaveBroken,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE, RolloutState, Standing
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

OPEN = WaveGuards()


class Fleet(ScriptedControlPlane):
    """One canary and two others. guards: of both waves."""

    def __init__(self, directory: Path, *guards: WaveGuards, layout: Layout | None = None) -> None:
        super().__init__(directory, layout or Layout(guards=guards))
        self.r1 = self.publish("r1")

    def finish(self, name: str) -> None:
        ScriptedHost(self, self.r1, name).finish()

    def pass_minutes(self, minutes: float) -> None:
        self.wait(minutes=minutes)
        self.tick()

    @property
    def wave(self) -> int:
        return self.rollout(self.r1).current_wave

    def moved(self) -> list[RolloutEvent]:
        return [entry.event for entry in self.logged(RolloutMoved)]

    def check_restart(self) -> None:
        """The views are what the log says, and a start brings the same state back."""
        assert self.check_store().differences == ()
        before = likeness(self.state)
        self.restart_control_plane()
        assert likeness(self.state) == before


def test_a_wave_without_guards_begins_when_the_one_before_is_done(scratch: Path) -> None:
    """Nothing about guards is logged: the log is that of a fleet which does not know them."""
    fleet = Fleet(scratch)
    fleet.finish("web-01")

    assert fleet.wave == 1
    assert not any(isinstance(event, GuardsOpened | Verdict) for event in fleet.moved())


def test_a_wave_that_bakes_begins_after_its_minutes(scratch: Path) -> None:
    """They run from when the wave before was done, and the end is an event in the log."""
    fleet = Fleet(scratch, OPEN, WaveGuards(bake_minutes=30))
    fleet.finish("web-01")
    done_at = fleet.now

    fleet.pass_minutes(29)
    assert fleet.wave == 0
    assert fleet.dispatch_of("web-02") is None
    assert fleet.rollout(fleet.r1).guarded_since == done_at

    fleet.pass_minutes(1)
    assert fleet.wave == 1
    kinds = [type(event) for event in fleet.moved()]
    assert kinds.index(GuardsOpened) < kinds.index(Verdict) < kinds.index(WaveAdvanced)
    assert fleet.rollout(fleet.r1).guarded_since is None
    fleet.check_restart()


def test_a_bake_that_is_over_is_counted_and_is_the_next_edge(scratch: Path) -> None:
    """By its outcome, as what operators and judges say; and the control plane wakes for it."""
    fleet = Fleet(scratch, OPEN, WaveGuards(bake_minutes=30))
    fleet.finish("web-01")
    assert fleet.engine.next_edge() == fleet.now + timedelta(minutes=30)
    fleet.wait(minutes=30)
    commit = fleet.engine.handle(PlanTick(), fleet.now)
    metrics = [each for each in commit.actions if isinstance(each, EmitMetric)]

    assert EmitMetric("nixfleet_verdicts_total", (("outcome", "pass"),), 1) in metrics
    assert fleet.engine.next_edge() is None


def test_a_bake_goes_on_through_a_restart(scratch: Path) -> None:
    """What it runs from is in the record."""
    fleet = Fleet(scratch, OPEN, WaveGuards(bake_minutes=30))
    fleet.finish("web-01")
    fleet.pass_minutes(20)
    fleet.check_restart()
    fleet.pass_minutes(10)

    assert fleet.wave == 1


def test_the_first_wave_can_have_guards(scratch: Path) -> None:
    """Its rollout is Opening at no wave, nobody is dispatched, and then it goes on as ever."""
    fleet = Fleet(scratch, WaveGuards(bake_minutes=10), OPEN)
    assert fleet.rollout(fleet.r1).state is RolloutState.OPENING
    assert fleet.wave == BEFORE_FIRST_WAVE
    assert fleet.dispatch_of("web-01") is None
    fleet.check_restart()

    fleet.pass_minutes(10)
    assert fleet.wave == 0
    assert fleet.dispatch_of("web-01") is not None
    for name in ("web-01", "web-02", "web-03"):
        fleet.finish(name)
    assert fleet.rollout(fleet.r1).state is RolloutState.TERMINAL
    fleet.check_restart()


def test_a_new_ref_inherits_nothing(scratch: Path) -> None:
    """The bake of the release before is not that of this one."""
    fleet = Fleet(scratch, WaveGuards(bake_minutes=10), OPEN)
    fleet.pass_minutes(9)
    r2 = fleet.publish("r2")
    fleet.pass_minutes(9)

    assert fleet.rollout(r2).current_wave == BEFORE_FIRST_WAVE
    assert fleet.rollout(fleet.r1).guarded_since is None


def test_a_host_that_comes_while_guards_are_asked_is_late(scratch: Path) -> None:
    """Its wave was done, and does not become undone: the wave that is guarded waits for nobody of it."""
    deadlines = Deadlines(ack=Deadline(10, AtDeadline.SKIP))
    layout = Layout(
        waves=(("web-01", "web-02"), ("web-03",)),
        policy=RolloutPolicy(deadlines=deadlines),
        guards=(OPEN, WaveGuards(bake_minutes=30)),
    )
    fleet = Fleet(scratch, layout=layout)
    fleet.finish("web-01")
    fleet.pass_minutes(10)
    assert fleet.rollout(fleet.r1).guarded_since is not None

    fleet.heartbeat("web-02", {})
    assert fleet.rollout(fleet.r1).standing_of("web-02") is Standing.LATE
    fleet.pass_minutes(30)
    assert fleet.wave == 1


# --- approvals -------------------------------------------------------------------------------------

KEYS = {name: SigningKey((name.encode() * 11)[:32]) for name in ("ada", "bob", "eve", "sam")}
RITA_KEY = SigningKey((b"rita" * 11)[:32])
TWO_APPROVE = WaveGuards(approvals=Approvals(2, ("ada", "bob", "eve")))


class Approved(Fleet):
    """As `Fleet`, with operators: ada, bob and eve may approve; sam is an operator who may not, rita only reads."""

    def start_control_plane(self) -> None:
        operate = OperatorRole.OPERATE
        operators = [Operator(name, KEYS[name].public_key, operate) for name in KEYS]
        operators.append(Operator("rita", RITA_KEY.public_key, OperatorRole.READ))
        super().start_control_plane()
        self.trust = evolve(self.ci.trust, operators=tuple(operators))
        self.engine.use_trust(self.trust)

    def approval(
        self, name: str, decision: Decision = Decision.APPROVE, *, wave: int = 1
    ) -> Approval:
        body = self.state.manifests[self.r1].artefact.body
        reason = "looks good"
        return Approval(self.r1, wave, artefact_hash(body), name, decision, reason, self.now)

    def give(self, approval: Approval, key: SigningKey | None = None) -> CommandOutcome:
        signed = sign_approval(approval, key or KEYS[approval.operator])
        return self.ask_for(CommandOutcome, GiveApproval(signed))

    def excuse(self, *hosts: str) -> None:
        command = ExcuseHosts(self.r1, frozenset(hosts), "ada", "they are scrap")
        assert self.command(command) == CommandOutcome()

    def state_now(self) -> RolloutState:
        return self.rollout(self.r1).state


@pytest.fixture
def fleet(scratch: Path) -> Approved:
    """A fleet whose canary is done, and whose second wave needs two approvals."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.finish("web-01")
    return fleet


def test_a_wave_begins_when_enough_operators_have_approved(fleet: Approved) -> None:
    """The statements are in the log as they were signed, so that anybody can check them."""
    assert fleet.give(fleet.approval("ada")) == CommandOutcome()
    assert fleet.wave == 0
    fleet.check_restart()
    assert fleet.give(fleet.approval("eve")) == CommandOutcome()
    assert fleet.wave == 1

    verdicts = [event for event in fleet.moved() if isinstance(event, Verdict)]
    assert [(event.judge, event.outcome) for event in verdicts] == [
        ("ada", Outcome.PASS),
        ("eve", Outcome.PASS),
    ]
    for event in verdicts:
        signed = SignedApproval(decode_approval(event.evidence.encode()), event.signature or "")
        verify_approval(signed, KEYS[event.judge].public_key)
    fleet.check_restart()


def test_a_second_approval_of_the_same_operator_changes_nothing(fleet: Approved) -> None:
    """It is no error, and is told."""
    fleet.give(fleet.approval("ada"))
    head = fleet.state.head_seq
    outcome = fleet.give(fleet.approval("ada"))

    assert outcome.refusal is None
    assert outcome.note == "ada has stated that of wave 1 before: nothing changes"
    assert (fleet.wave, fleet.state.head_seq) == (0, head)


def test_an_approval_may_come_before_the_wave_before_is_done(scratch: Path) -> None:
    """It is counted; the wave waits for both."""
    fleet = Approved(scratch, OPEN, WaveGuards(approvals=Approvals(1, ("ada",))))
    assert fleet.give(fleet.approval("ada")) == CommandOutcome()
    assert fleet.wave == 0
    fleet.finish("web-01")

    assert fleet.wave == 1


def test_an_approval_from_before_a_clearance_does_not_count_again(fleet: Approved) -> None:
    """The signed bytes say what was said before it; also after a restart. A new statement counts."""
    early = fleet.approval("ada")
    fleet.give(early)
    fleet.give(fleet.approval("eve", Decision.DENY))
    fleet.wait(minutes=5)
    fleet.clear(fleet.r1)
    fleet.wait(minutes=5)
    fleet.check_restart()
    refused = fleet.give(early).refusal

    assert refused is not None
    assert refused.startswith("expected a statement signed after 2026-05-16T01:10:00Z, ")
    assert "before stable@r1 was cleared" in refused
    assert fleet.give(fleet.approval("ada")) == CommandOutcome()
    assert fleet.give(fleet.approval("eve")) == CommandOutcome()
    assert fleet.wave == 1


@pytest.mark.parametrize("decision", [Decision.APPROVE, Decision.DENY])
def test_a_statement_by_a_clock_that_is_ahead_does_not_count_again_after_a_clearance(
    fleet: Approved, decision: Decision
) -> None:
    """It is dated after the clearance, and was received before. One that is dated after that minute counts."""
    ahead = evolve(fleet.approval("ada", decision), signed_at=fleet.now + timedelta(seconds=50))
    assert fleet.give(ahead) == CommandOutcome()
    if decision is Decision.APPROVE:
        fleet.give(fleet.approval("eve", Decision.DENY))
    fleet.wait(seconds=10)
    fleet.clear(fleet.r1)
    fleet.check_restart()
    refused = fleet.give(ahead).refusal

    assert refused is not None
    assert refused.startswith("expected a statement signed after 2026-05-16T01:06:00Z, ")
    assert fleet.state_now().is_live
    assert not fleet.rollout(fleet.r1).guard_tallies
    fleet.wait(seconds=51)
    assert fleet.give(fleet.approval("ada")) == CommandOutcome()
    assert check_approvals(list(fleet.log()), fleet.trust).problems == ()


def test_a_statement_counts_at_once_after_a_clearance_if_the_last_one_before_is_a_minute_old(
    fleet: Approved,
) -> None:
    """What was received by then was dated before the clearance."""
    fleet.give(fleet.approval("eve", Decision.DENY))
    fleet.wait(seconds=60)
    fleet.clear(fleet.r1)
    fleet.wait(seconds=1)

    assert fleet.give(fleet.approval("eve")) == CommandOutcome()


def test_an_approval_of_who_becomes_the_author_counts_no_more(fleet: Approved) -> None:
    """The manifest is signed again under the same ref with another author: all are asked anew."""
    fleet.give(fleet.approval("ada"))
    fleet.wait(minutes=1)
    fleet.offer(fleet.ci.release(evolve(fleet.layout, author="ada"), "r1", fleet.now))
    fleet.check_restart()

    assert fleet.give(fleet.approval("eve")) == CommandOutcome()
    assert fleet.wave == 0
    assert fleet.give(fleet.approval("bob")) == CommandOutcome()
    assert fleet.wave == 1


def test_approvals_stay_when_the_manifest_is_signed_again_by_who_gave_none(
    fleet: Approved,
) -> None:
    """Only an approval of the new author was of another release than it seemed."""
    fleet.give(fleet.approval("ada"))
    fleet.wait(minutes=1)
    fleet.offer(fleet.ci.release(evolve(fleet.layout, author="sam"), "r1", fleet.now))
    fleet.give(fleet.approval("eve"))

    assert fleet.wave == 1


def test_a_denial_halts_the_rollout_at_once(fleet: Approved) -> None:
    """Whoever approved before, or comes after: it takes a clearance, after which all is asked anew."""
    fleet.give(fleet.approval("ada"))
    fleet.give(fleet.approval("bob", Decision.DENY))

    assert fleet.state_now() is RolloutState.FAILED
    (broken,) = [event for event in fleet.moved() if isinstance(event, WaveBroken)]
    assert (broken.wave, broken.reason) == (1, "approvals: fail by bob: looks good")
    refused = fleet.give(fleet.approval("eve"))
    found = f"expected {fleet.r1} to go on, found it Failed"
    assert refused.refusal == f"{found}: clear it first, after which all guards are asked anew"
    fleet.check_restart()

    fleet.clear(fleet.r1)
    assert fleet.rollout(fleet.r1).guard_tallies == ()
    fleet.wait(seconds=61)
    fleet.give(fleet.approval("eve"))
    assert fleet.wave == 0
    fleet.give(fleet.approval("ada"))
    assert fleet.wave == 1


def test_a_denial_before_the_first_wave_halts_a_rollout_that_has_no_host(scratch: Path) -> None:
    """It is Opening then, and a clearance lets it ask again."""
    fleet = Approved(scratch, WaveGuards(approvals=Approvals(1, ("ada", "bob"))), OPEN)
    fleet.give(fleet.approval("bob", Decision.DENY, wave=0))
    assert fleet.state_now() is RolloutState.FAILED
    fleet.clear(fleet.r1)
    fleet.wait(seconds=61)
    fleet.give(fleet.approval("ada", wave=0))

    assert fleet.wave == 0
    assert fleet.dispatch_of("web-01") is not None


def _refused(fleet: Approved, approval: Approval, key: SigningKey | None = None) -> str:
    head = fleet.state.head_seq
    refusal = fleet.give(approval, key).refusal
    assert refusal is not None
    assert fleet.state.head_seq == head
    return refusal


def test_an_approval_of_nobody_the_trust_file_has_is_refused(fleet: Approved) -> None:
    """And one of an operator who only reads."""
    mallory = evolve(fleet.approval("ada"), operator="mallory")
    rita = evolve(fleet.approval("ada"), operator="rita")

    expected = "expected an operator of the trust file, found 'mallory'"
    assert _refused(fleet, mallory, KEYS["ada"]) == expected
    expected = "expected rita to have the role operate, found read"
    assert _refused(fleet, rita, KEYS["ada"]) == expected


def test_an_approval_of_an_operator_who_is_not_asked_is_refused(fleet: Approved) -> None:
    """The manifest names who may approve."""
    expected = "expected one of ada, bob, eve, who may approve wave 1, found sam"
    assert _refused(fleet, fleet.approval("sam")) == expected


def test_a_forged_approval_is_refused(fleet: Approved) -> None:
    """Whether another key signed it, or it was changed since."""
    assert _refused(fleet, fleet.approval("ada"), KEYS["bob"]).startswith(
        "expected a statement that ada signed: "
    )


def test_an_approval_of_another_manifest_is_refused(fleet: Approved) -> None:
    """Both hashes are told."""
    other = evolve(fleet.approval("ada"), manifest_hash="0" * 64)
    assert _refused(fleet, other).endswith("which is in force, found one on " + "0" * 64)


@pytest.mark.parametrize(
    ("wave", "refusal"),
    [
        (0, "expected a wave that has not begun, found wave 0: stable@r1 is at wave 0"),
        (2, "expected a wave of stable@r1, 0 to 1, found 2"),
    ],
)
def test_an_approval_of_a_wave_that_is_over_or_does_not_exist_is_refused(
    fleet: Approved, wave: int, refusal: str
) -> None:
    """Each says which it is."""
    assert _refused(fleet, fleet.approval("ada", wave=wave)) == refusal


def test_an_approval_that_nobody_asks_for_is_refused(scratch: Path) -> None:
    """A wave without approvals needs none, and has nothing to promote either."""
    fleet = Approved(scratch, OPEN, WaveGuards(bake_minutes=5))
    assert _refused(fleet, fleet.approval("ada")) == "wave 1 of stable@r1 needs no approval"
    promoted = fleet.approval("ada", Decision.PROMOTE)
    expected = "wave 1 of stable@r1 has no guard that may be waived"
    assert _refused(fleet, promoted) == expected


def test_an_approval_of_the_future_is_refused(fleet: Approved) -> None:
    """Beyond what clocks differ by."""
    early = evolve(fleet.approval("ada"), signed_at=fleet.now + timedelta(minutes=2))
    assert _refused(fleet, early).startswith("expected a statement of the past, found one of ")


def test_an_approval_of_an_unknown_rollout_is_refused(fleet: Approved) -> None:
    """As for any other command."""
    unknown = evolve(fleet.approval("ada"), rollout_id=RolloutId("stable@r9"))
    assert _refused(fleet, unknown) == "no rollout stable@r9 is open"


def test_an_approval_without_a_reason_is_refused(fleet: Approved) -> None:
    """Whoever reads the log later wants to know."""
    assert _refused(fleet, evolve(fleet.approval("ada"), reason=" ")) == (
        "expected a reason, found none"
    )


def test_the_author_of_a_release_does_not_approve_it(scratch: Path) -> None:
    """But may deny it."""
    layout = Layout(guards=(OPEN, TWO_APPROVE), author="ada")
    fleet = Approved(scratch, layout=layout)
    expected = "ada is the author of this release, and does not approve it"
    assert _refused(fleet, fleet.approval("ada")) == expected
    fleet.finish("web-01")
    fleet.give(fleet.approval("ada", Decision.DENY))
    assert fleet.state_now() is RolloutState.FAILED


def test_an_amended_manifest_inherits_no_approval(fleet: Approved) -> None:
    """Who approved three hosts did not approve four."""
    fleet.give(fleet.approval("ada"))
    more = evolve(fleet.layout, waves=(("web-01",), ("web-02", "web-03", "web-04")))
    fleet.wait(minutes=1)
    fleet.publish("r1", more)

    assert fleet.rollout(fleet.r1).guard_tallies == ()


def test_a_denial_halts_the_rollout_while_the_wave_before_is_under_way(scratch: Path) -> None:
    """Whoever denies early wants it to stop now, not when the canary is done."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.give(fleet.approval("ada", Decision.DENY))

    assert fleet.state_now() is RolloutState.FAILED
    assert fleet.dispatch_of("web-01") is None


# --- promotion -------------------------------------------------------------------------------------


def test_a_promotion_waives_what_may_be_waived_and_nothing_else(scratch: Path) -> None:
    """The bake is waived; the approvals are not, so the wave waits for them."""
    guards = WaveGuards(30, Approvals(1, ("ada",)), waivable=("bake",))
    fleet = Approved(scratch, OPEN, guards)
    fleet.finish("web-01")
    assert fleet.give(fleet.approval("sam", Decision.PROMOTE)) == CommandOutcome()
    assert fleet.wave == 0
    again = fleet.give(fleet.approval("bob", Decision.PROMOTE))
    assert again.note is not None
    fleet.give(fleet.approval("ada"))

    assert fleet.wave == 1
    waived = [e for e in fleet.moved() if isinstance(e, Verdict) and e.outcome is Outcome.WAIVED]
    assert [(event.guard, event.judge, event.reason) for event in waived] == [
        ("bake", "sam", "looks good")
    ]
    fleet.check_restart()


def test_a_promotion_shortens_no_soak(scratch: Path) -> None:
    """The wave before has to be done all the same."""
    fleet = Approved(scratch, OPEN, WaveGuards(bake_minutes=30, waivable=("bake",)))
    fleet.give(fleet.approval("ada", Decision.PROMOTE))
    assert fleet.wave == 0
    fleet.finish("web-01")

    assert fleet.wave == 1


# --- checks ----------------------------------------------------------------------------------------

CHECK = Check("errors", "prometheus", "rate", "< 0.01", passes=2, failures=1)


class Checked(Fleet):
    """As `Fleet`; the second wave has a check."""

    def say(self, outcome: Outcome, *, wave: int = 1, check: str = "errors") -> None:
        self.answer(evolve(self.question(), wave=wave, check=check), outcome)

    def answer(self, question: CheckQuestion, outcome: Outcome) -> None:
        self.ask_for(Done, ReportVerdict(question, outcome, "0.02 < 0.01", "0.02"))

    def question(self) -> CheckQuestion:
        """What the judge would be asked now, or a question that was never asked."""
        asked = self.engine.asked_checks()
        return asked[0].question if asked else CheckQuestion(self.r1, 1, "errors", 0, b"")

    @property
    def verdicts(self) -> list[Outcome]:
        return [event.outcome for event in self.moved() if isinstance(event, Verdict)]


@pytest.fixture
def checking(scratch: Path) -> Checked:
    """A fleet whose canary is done, and whose second wave waits for its check."""
    fleet = Checked(scratch, OPEN, WaveGuards(checks=(CHECK,)))
    fleet.finish("web-01")
    return fleet


def test_a_wave_begins_after_passes_in_a_row(checking: Checked) -> None:
    """A fail between them begins the row anew."""
    for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.PASS):
        checking.say(outcome)
    assert checking.wave == 0
    checking.check_restart()
    checking.say(Outcome.PASS)

    assert checking.wave == 1
    checking.check_restart()


def test_a_check_that_fails_too_often_halts_the_rollout(checking: Checked) -> None:
    """By the same road as hosts that fail."""
    checking.say(Outcome.FAIL)
    assert checking.rollout(checking.r1).state is RolloutState.ACTIVE
    checking.say(Outcome.FAIL)

    assert checking.rollout(checking.r1).state is RolloutState.FAILED
    (broken,) = [event for event in checking.moved() if isinstance(event, WaveBroken)]
    assert broken.reason == "errors: fail by prometheus: 0.02 < 0.01"


def test_a_judge_that_says_nothing_for_long_fills_no_log(checking: Checked) -> None:
    """Its silence is noted once, and never passes."""
    for _ in range(20):
        checking.say(Outcome.INCONCLUSIVE)

    assert checking.verdicts == [Outcome.INCONCLUSIVE]
    assert checking.wave == 0


def test_checks_are_asked_while_their_wave_waits(scratch: Path) -> None:
    """Not before the wave before is done, on while another guard holds it, and not once it has begun."""
    fleet = Checked(scratch, OPEN, WaveGuards(bake_minutes=30, checks=(CHECK,)))
    assert fleet.engine.asked_checks() == ()
    fleet.finish("web-01")
    (asked,) = fleet.engine.asked_checks()
    assert (asked.check, asked.since, asked.is_answered) == (CHECK, fleet.now, False)
    fleet.say(Outcome.PASS)
    fleet.say(Outcome.PASS)
    fleet.say(Outcome.PASS)
    assert len(fleet.verdicts) == 2
    assert len(fleet.engine.asked_checks()) == 1
    fleet.pass_minutes(30)

    assert fleet.wave == 1
    assert fleet.engine.asked_checks() == ()


@pytest.mark.parametrize(("wave", "check"), [(0, "errors"), (2, "errors"), (1, "latency")])
def test_an_answer_that_nobody_asked_for_is_dropped(
    checking: Checked, wave: int, check: str
) -> None:
    """It was on its way when the wave began, or is about a check that the manifest does not have."""
    checking.say(Outcome.PASS, wave=wave, check=check)
    assert checking.verdicts == []


def test_a_check_is_asked_as_it_was_signed(scratch: Path) -> None:
    """Its name, its judge, what is asked, and what is compared with: a verdict is of that judge."""
    checking = Checked(scratch, OPEN, WaveGuards(checks=(CHECK,)))
    checking.finish("web-01")
    (asked,) = checking.engine.asked_checks()
    check = asked.check
    assert (check.name, check.judge, check.query, check.comparison) == (
        "errors",
        "prometheus",
        "rate",
        "< 0.01",
    )
    checking.say(Outcome.PASS)
    assert [e.judge for e in checking.moved() if isinstance(e, Verdict)] == ["prometheus"]


def test_an_answer_to_a_question_from_before_a_clearance_counts_no_more(checking: Checked) -> None:
    """It was on its way: the guards are asked anew, and another question is open, though its words are the same."""
    before = checking.question()
    checking.say(Outcome.FAIL)
    checking.say(Outcome.FAIL)
    checking.clear(checking.r1)
    checking.tick()
    assert checking.question() != before
    for outcome in (Outcome.PASS, Outcome.PASS, Outcome.FAIL):
        checking.answer(before, outcome)

    assert checking.rollout(checking.r1).guard_tallies == ()
    assert checking.wave == 0
    checking.check_restart()
    checking.say(Outcome.PASS)
    checking.say(Outcome.PASS)
    assert checking.wave == 1


def test_an_answer_to_a_question_from_before_an_amendment_counts_no_more(
    checking: Checked,
) -> None:
    """What was asked of two hosts says nothing of three."""
    before = checking.question()
    more = evolve(checking.layout, waves=(("web-01",), ("web-02", "web-03", "web-04")))
    checking.wait(minutes=1)
    checking.publish("r1", more)
    checking.answer(before, Outcome.PASS)
    checking.answer(before, Outcome.PASS)

    assert checking.rollout(checking.r1).guard_tallies == ()
    assert checking.wave == 0


# --- waves of which nobody is waited for -----------------------------------------------------------


def test_a_wave_whose_hosts_are_all_excused_needs_its_approval_all_the_same(scratch: Path) -> None:
    """Excusing hosts says nothing of the release: the rollout is not done behind the approvers' backs."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.finish("web-01")
    fleet.excuse("web-02", "web-03")
    assert fleet.state_now() is RolloutState.ACTIVE
    assert fleet.wave == 0
    fleet.give(fleet.approval("ada"))
    fleet.give(fleet.approval("bob"))

    assert fleet.state_now() is RolloutState.TERMINAL
    assert fleet.wave == 1
    fleet.check_restart()


def test_a_denial_of_a_wave_whose_hosts_are_all_excused_halts_the_rollout(scratch: Path) -> None:
    """As of every other wave."""
    fleet = Approved(scratch, OPEN, TWO_APPROVE)
    fleet.finish("web-01")
    fleet.excuse("web-02", "web-03")
    fleet.give(fleet.approval("ada", Decision.DENY))

    assert fleet.state_now() is RolloutState.FAILED
