"""Performs the acts of people who steer: holds, calendars, statements on waves, and the ends of rollouts by hand."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final, assert_never
from zoneinfo import ZoneInfo

from attrs import evolve

from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    GiveApproval,
    OperatorCommand,
    PlaceHold,
    RelayWarrant,
    ReleaseHold,
)
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Selector
from nixfleet_proto.steering.approval import Approval, Decision, SignedApproval
from nixfleet_proto.steering.calendar import CalendarEntry, CalendarKind
from nixfleet_simulation.judge.model.rollout_model import RolloutModel
from nixfleet_simulation.judge.model.steering.guards import Statement
from nixfleet_simulation.nodes.ci import OPERATOR, STRANGER
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.acts import Abort, RecallRelease
from nixfleet_simulation.scenario.steering_acts import (
    ChangeCalendar,
    FreezeFor,
    HoldPlace,
    HoldUntil,
    JudgeSays,
    Says,
    StateAgain,
    StateOn,
    SteeringAct,
    Twist,
)
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
)

RELEASE_TRIED_FOR: Final = 5
"""How often a release is tried, every 30 s: a control plane may be down."""
RETRY_SECONDS: Final = 30.0
AHEAD: Final = timedelta(minutes=10)


class SteeringActs:
    """Performs acts of steering. later: schedules. order: posts a command. sign: has CI sign again."""

    def __init__(
        self,
        world: World,
        later: Callable[..., None],
        order: Callable[[OperatorCommand], None],
        sign: Callable[[], None],
    ) -> None:
        self._world = world
        self._later = later
        self._order = order
        self._sign = sign
        self._statements: list[SignedApproval] = []
        self._frozen = 0

    def do(self, act: SteeringAct | Abort | RecallRelease) -> None:
        """Perform `act`."""
        match act:
            case HoldUntil():
                self._hold(act)
            case ChangeCalendar():
                self._world.ci.calendar = act.entries
                self._sign()
            case FreezeFor():
                self._freeze(act)
            case StateOn():
                self._state_on(act)
            case StateAgain():
                if len(self._statements) >= act.back:
                    self._send(self._statements[-act.back])
            case JudgeSays():
                self._world.judges.says[act.channel] = act.says
            case Abort():
                self._abort(act.channel)
            case RecallRelease():
                self._recall(act)
            case _:
                assert_never(act)

    # Ends.

    def _recall(self, act: RecallRelease) -> None:
        newest = self._newest(act.channel)
        if newest is None:
            return
        rollout_id, hosts = RolloutId(newest), tuple(filter(None, (act.host,)))
        lasts = timedelta(seconds=act.good_for_seconds)
        signed = self._world.ci.order_recall(rollout_id, hosts, self._world.agenda.time, lasts)
        self._world.checker.histories.orders[signed.warrant.order_id] = signed.warrant
        text = encode_signed_warrant(signed).decode()
        self._order(RelayWarrant(rollout_id, text, OPERATOR, signed.warrant.reason))

    def _abort(self, channel: str) -> None:
        newest = self._newest(channel)
        if newest is not None:
            self._order(AbortRollout(RolloutId(newest), OPERATOR, "nobody wants it"))

    # Holds.

    def _hold(self, act: HoldUntil) -> None:
        scope = self._scope(act)
        if scope is None:
            return
        until = self._world.agenda.time + timedelta(seconds=act.for_seconds)
        self._order(PlaceHold(scope, OPERATOR, "a demonstration", until))
        if act.released_after_seconds:
            self._later(act.released_after_seconds, self._release, scope, RELEASE_TRIED_FOR)

    def _release(self, scope: HoldScope, tries: int) -> None:
        if (str(scope), f"operator:{OPERATOR}") in self._world.checker.log.gates.holds and tries:
            self._order(ReleaseHold(scope, OPERATOR, "it is over"))
            self._later(RETRY_SECONDS, self._release, scope, tries - 1)

    def _scope(self, act: HoldUntil) -> HoldScope | None:
        newest = self._newest(act.channel)
        match act.place:
            case HoldPlace.FLEET:
                return FleetScope()
            case HoldPlace.CHANNEL:
                return ChannelScope(act.channel)
            case HoldPlace.HOST:
                return HostScope(act.host)
            case HoldPlace.ROLLOUT:
                return None if newest is None else RolloutScope(RolloutId(newest))
            case HoldPlace.WAVE:
                return None if newest is None else WaveScope(RolloutId(newest), 0)
            case _:
                assert_never(act.place)

    def _freeze(self, act: FreezeFor) -> None:
        now = self._world.agenda.time
        self._frozen += 1
        zone = ZoneInfo(act.zone)
        ends = now + timedelta(minutes=act.for_minutes)
        frozen = CalendarEntry(
            f"freeze-{self._frozen}",
            CalendarKind.DENY,
            Selector(tags=(act.channel,)),
            act.zone,
            begins=f"{now.astimezone(zone) - timedelta(days=1):%Y-%m-%dT%H:%M}",
            ends=f"{ends.astimezone(zone):%Y-%m-%dT%H:%M}",
        )
        self._world.ci.calendar = (*self._world.ci.calendar, frozen)
        self._sign()

    # Statements on waves.

    def _state_on(self, act: StateOn) -> None:
        rollout = self._rollout(act.channel)
        wave = None if rollout is None else next_guarded(rollout)
        if rollout is None or wave is None:
            return
        for name in act.operators:
            self.state(rollout, wave, name, act.decision, act.twist)
            if act.again:
                self.state(rollout, wave, name, act.decision, act.twist)

    def state(
        self,
        rollout: RolloutModel,
        wave: int,
        operator: str,
        decision: Decision,
        twist: Twist = Twist.NONE,
    ) -> None:
        """Have an operator sign a statement on a wave, and send it."""
        ci, now = self._world.ci, self._world.agenda.time
        manifest_hash = self._world.checker.log.hashes[rollout.rollout_id]
        if twist is Twist.BY_A_STRANGER:
            operator = STRANGER
        approval = Approval(
            RolloutId(rollout.rollout_id), wave, manifest_hash, operator, decision, "seen", now
        )
        if twist is Twist.SIGNED_AHEAD:
            approval = evolve(approval, signed_at=now + AHEAD)
        if twist is Twist.OTHER_MANIFEST:
            approval = evolve(approval, manifest_hash=ci.older_hash(rollout.rollout_id))
        by = STRANGER if twist is Twist.OTHER_KEY else operator
        signed = ci.state(approval, by)
        self._world.checker.statements[signed.signature] = Statement(
            operator,
            rollout.rollout_id,
            wave,
            approval.manifest_hash,
            decision.value,
            approval.signed_at,
            is_genuine=by == operator != STRANGER,
        )
        self._statements.append(signed)
        self._send(signed)

    def _send(self, signed: SignedApproval) -> None:
        self._world.control_plane.post(GiveApproval(signed))

    def let_begin(self) -> None:
        """Have everybody agree with everything that is asked: judges pass, and operators approve."""
        self._world.judges.says = dict.fromkeys(self._world.judges.says, Says.PASS)
        for rollout in self._world.checker.log.rollouts.values():
            wave = next_guarded(rollout)
            if wave is None or not rollout.is_live or rollout.is_halted:
                continue
            asked = rollout.layout.guards_of(wave).approvals
            given = rollout.said.of(wave, "approvals").passed
            for name in () if asked is None else asked.names:
                if name not in given:
                    self.state(rollout, wave, name, Decision.APPROVE)

    def _rollout(self, channel: str) -> RolloutModel | None:
        newest = self._newest(channel)
        return None if newest is None else self._world.checker.log.rollouts.get(newest)

    def _newest(self, channel: str) -> str | None:
        return self._world.checker.log.gates.in_force.get(channel)


def next_guarded(rollout: RolloutModel) -> int | None:
    """Return the first wave that has not begun and has guards."""
    later = range(rollout.due.wave + 1, len(rollout.layout.waves))
    return next((wave for wave in later if rollout.layout.guards_of(wave).is_declared), None)
