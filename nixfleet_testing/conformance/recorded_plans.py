"""Our planner's own answers as rows: one small fleet, with every gate closed alone, two at a time, and none.

db-01 is the host that the gates are about: it is in the second wave, which is reached, and nothing holds it.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import combinations

from attrs import evolve, field, frozen

from nixfleet_proto.fleet import (
    Edge,
    FleetChannel,
    FleetHost,
    FleetResolved,
    Meta,
    RolloutPolicy,
    Selector,
    Wave,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.json_value import JsonValue
from nixfleet_proto.manifest import HostAssignment, ManifestBudget, RolloutManifest
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.rollout.event import (
    HostJoined,
    RolloutOpened,
    RolloutTerminal,
    WaveAdvanced,
)
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing
from nixfleet_testing.conformance.answer import JsonObject
from nixfleet_testing.conformance.planner import action_json
from nixfleet_testing.conformance.planner_situation import read_situation
from nixfleet_testing.conformance.reference_json import to_json, to_json_object
from nixfleet_testing.samples import (
    BEFORE,
    NOW,
    ROLLOUT,
    SOAK_DUE,
    host_now,
    hosts,
    then,
)

_INFRA = RolloutId("infra@e5f6")
_META = Meta(signed_at=BEFORE)
_OURS = frozenset(
    {
        "freshness_window_minutes",
        "wave_not_before",
        "not_before",
        "blast_radius",
        "ramp",
        "max_per_minute",
    }
)
"""The fields of manifests, fleets and budgets that the reference does not have."""
_HOSTS = ("db-01", "db-02", "web-01", "web-02")
_EVERYBODY = ManifestBudget(Selector(all=True), _HOSTS, max_in_flight=1)


@frozen
class Scene:
    """A fleet of four hosts on `stable`, and of one on `infra` that is offered when `infra` says so.

    states: by host, the title of its record in `situations.hosts`. allowed: how many hosts of each wave may fail.
    attempts: ordered, by host. is_over: the rollout is Terminal.
    """

    states: FrozenMap[str, str] = FrozenMap(
        {"db-01": "", "db-02": "", "web-01": "converged", "web-02": "converged"}
    )
    staged: tuple[str, ...] = ("db-01", "db-02")
    wave: int = 1
    is_halted: bool = False
    infra: RolloutRecord | None = None
    is_infra_offered: bool = False
    edges: tuple[Edge, ...] = ()
    budgets: tuple[ManifestBudget, ...] = ()
    quarantined: tuple[str, ...] = ()
    holds: FrozenMap[str, str] = field(factory=lambda: FrozenMap[str, str]())
    failing: FrozenMap[str, int] = field(factory=lambda: FrozenMap[str, int]())
    queued: tuple[str, ...] = ()
    standings: FrozenMap[str, Standing] = FrozenMap()
    attempts: FrozenMap[str, int] = FrozenMap()
    allowed: int | None = None
    is_over: bool = False


Change = Callable[[Scene], Scene]


def changes() -> Mapping[str, Change]:
    """Return what closes each gate, by the gate, in the order the gates are asked."""
    active = then(_opened(_INFRA), HostJoined(_INFRA, "ns-01", 0, BEFORE))
    return {
        "quarantine": lambda scene: evolve(scene, quarantined=("target",)),
        "rollout-halted": lambda scene: evolve(scene, is_halted=True),
        "operator-hold": lambda scene: evolve(scene, holds=FrozenMap({"stable": "alice: freeze"})),
        "channel-edges": lambda scene: evolve(scene, is_infra_offered=True, infra=active),
        "wave-promotion": lambda scene: evolve(scene, wave=0),
        "wave-promotion-host-unstaged": lambda scene: evolve(scene, staged=("db-02",)),
        "host-edge": lambda scene: evolve(scene, edges=(Edge("db-02", "db-01", "primary first"),)),
        "disruption-budget": _fill_the_budget,
        "compliance-wave": lambda scene: evolve(scene, failing=FrozenMap({"web-01": 2})),
        "probe-topology": lambda scene: _with_state(
            scene, "web-01", "soaking, probes not declared"
        ),
    }


def variations() -> Mapping[str, Change]:
    """Return what else decides: the other ways to close a gate, and the ways to open one."""
    ended = then(
        _opened(_INFRA), HostJoined(_INFRA, "ns-01", 0, BEFORE), WaveAdvanced(_INFRA, 0, 0, BEFORE)
    )
    return {
        "nothing": lambda scene: scene,
        "an operator paused the rollout": lambda scene: evolve(
            scene, holds=FrozenMap({str(ROLLOUT): ""})
        ),
        "the predecessor is not open yet": lambda scene: evolve(scene, is_infra_offered=True),
        "the predecessor converges": lambda scene: evolve(
            scene, is_infra_offered=True, infra=ended
        ),
        "the budget has room for one": lambda scene: evolve(scene, budgets=(_EVERYBODY,)),
        "the budget is a share": lambda scene: evolve(
            scene, budgets=(ManifestBudget(Selector(all=True), _HOSTS, max_in_flight_pct=50),)
        ),
        "the edge is satisfied": lambda scene: evolve(scene, edges=(Edge("web-01", "db-01"),)),
        "controls fail in the same wave": lambda scene: evolve(
            scene, failing=FrozenMap({"db-02": 1})
        ),
        **{f"the host is {standing}": _stands("db-01", standing) for standing in Standing},
        **{
            f"the host is {standing}, after the end": _after_the_end(_stands("db-01", standing))
            for standing in Standing
        },
        **{
            f"the host that it waits for is {standing}": _waits_for_one_that_is(standing)
            for standing in Standing
        },
        "the host is to try again": _tries_again,
        "the host is to try again, after the end": _after_the_end(_tries_again),
        "a tolerated host is down in the slot": _fails_in_the_budget,
        "a tolerated host is down in the slot, after the end": _after_the_end(
            lambda scene: _stands("db-01", Standing.LATE)(_fails_in_the_budget(scene))
        ),
        "controls of a tolerated host fail": lambda scene: evolve(
            _with_state(scene, "web-01", "failed by activation"),
            failing=FrozenMap({"web-01": 2}),
            allowed=1,
        ),
        **{
            f"an earlier host is {title}": _puts_web_01(title)
            for title in hosts()
            if title != "pending"
        },
    }


def plans() -> Iterator[JsonObject]:
    """Yield every scene with db-01 waiting, and again with a dispatch for it in the queue."""
    for title, scene in _scenes():
        yield _row(title, scene)
        yield _row(f"{title}; db-01 is queued", evolve(scene, queued=("db-01",)))


def _scenes() -> Iterator[tuple[str, Scene]]:
    for title, change in {**variations(), **changes()}.items():
        yield title, change(Scene())
    for (title, change), (other_title, other) in combinations(changes().items(), 2):
        yield f"{title} and {other_title}", other(change(Scene()))


def _stands(host: str, standing: Standing) -> Change:
    return lambda scene: evolve(scene, standings=FrozenMap({host: standing}))


def _waits_for_one_that_is(standing: Standing) -> Change:
    return lambda scene: evolve(
        _stands("db-02", standing)(scene), edges=(Edge("db-02", "db-01", "primary first"),)
    )


def _after_the_end(change: Change) -> Change:
    return lambda scene: evolve(change(scene), is_over=True)


def _tries_again(scene: Scene) -> Scene:
    failed = _with_state(scene, "db-01", "reverted")
    return evolve(failed, attempts=FrozenMap({"db-01": 2}), allowed=1)


def _fails_in_the_budget(scene: Scene) -> Scene:
    full = evolve(scene, budgets=(_EVERYBODY,), allowed=1)
    return _with_state(full, "web-02", "failed by activation")


def _puts_web_01(title: str) -> Change:
    return lambda scene: _with_state(scene, "web-01", title)


def _fill_the_budget(scene: Scene) -> Scene:
    return _with_state(evolve(scene, budgets=(_EVERYBODY,)), "web-02", "soaking, probe passing")


def _with_state(scene: Scene, host: str, title: str) -> Scene:
    return evolve(scene, states=scene.states.with_item(host, title))


def _row(title: str, scene: Scene) -> JsonObject:
    situation = _input(scene)
    read = read_situation(situation)
    actions = plan_next(read.view(), read.quarantines, read.now)
    return {
        "case": title,
        "input": situation,
        "actions": [action_json(action) for action in actions],
        "differs_by_design": [],
    }


def _input(scene: Scene) -> JsonObject:
    manifests = {"stable": _manifest(ROLLOUT, _HOSTS, scene.budgets)}
    rollouts = {
        str(ROLLOUT): {
            **to_json_object(_stable(scene)),
            "budgets": _without_ours(to_json(scene.budgets)),
        }
    }
    if scene.is_infra_offered:
        manifests["infra"] = _manifest(_INFRA, ("ns-01",), ())
    if scene.infra is not None:
        rollouts[str(_INFRA)] = {**to_json_object(scene.infra), "budgets": []}
    return {
        "fleet": _recorded(_fleet(scene)),
        "manifests": {channel: _recorded(each) for channel, each in manifests.items()},
        "fleet_state": {
            "rollouts": rollouts,
            "host_states": [{"state": to_json_object(each)} for each in _records(scene)],
            "outstanding_failing_enforce_probes": {str(ROLLOUT): to_json(scene.failing)},
            "holds": to_json(scene.holds),
            "queued": {str(ROLLOUT): [*scene.queued]},
        },
        "quarantines": {"stable": [*scene.quarantined]},
        "now": to_json(NOW),
    }


def _records(scene: Scene) -> Iterator[HostRolloutState]:
    for name, title in scene.states.items():
        if title:
            yield evolve(hosts()[title], hostname=name)
        else:
            waiting = HostRolloutState.pending(ROLLOUT, name, "stable", "target", None, None)
            is_queued = name in scene.queued
            yield waiting.dispatched(BEFORE, SOAK_DUE) if is_queued else waiting


def _stable(scene: Scene) -> RolloutRecord:
    record = then(_opened(ROLLOUT), HostJoined(ROLLOUT, "web-01", 0, BEFORE))
    if scene.wave:
        record = then(record, WaveAdvanced(ROLLOUT, 0, scene.wave, BEFORE))
    if scene.is_halted:
        record = then(record, host_now(HostState.FAILED, BEFORE + timedelta(minutes=1)))
    if scene.is_over:
        record = then(record, RolloutTerminal(ROLLOUT, BEFORE))
    return evolve(record, standings=scene.standings, attempts=scene.attempts)


def _opened(rollout_id: RolloutId) -> RolloutRecord:
    channel, _, target_ref = rollout_id.partition("@")
    return open_rollout(RolloutOpened(rollout_id, channel, target_ref, BEFORE), 1, ())


def _recorded(value: RolloutManifest | FleetResolved) -> JsonValue:
    """Return a manifest or fleet as the reference writes it: without the fields that it does not have."""
    return _without_ours(to_json(value))


def _without_ours(value: JsonValue) -> JsonValue:
    match value:
        case Mapping():
            return {name: _without_ours(it) for name, it in value.items() if name not in _OURS}
        case list():
            return [_without_ours(it) for it in value]
        case _:
            return value


def _manifest(
    rollout_id: RolloutId, hosts_of: tuple[str, ...], budgets: tuple[ManifestBudget, ...]
) -> RolloutManifest:
    channel, _, channel_ref = rollout_id.partition("@")
    return RolloutManifest(
        channel=channel,
        channel_ref=channel_ref,
        display_name=str(rollout_id),
        fleet_resolved_hash="",
        host_set=tuple(HostAssignment(host, "target") for host in hosts_of),
        meta=_META,
        disruption_budgets=budgets,
    )


def _fleet(scene: Scene) -> FleetResolved:
    stable = FrozenMap({host: FleetHost("stable") for host in _HOSTS})
    return FleetResolved(
        hosts=stable.with_item("ns-01", FleetHost("infra")),
        channels=FrozenMap({name: FleetChannel("waves") for name in ("infra", "stable")}),
        rollout_policies=FrozenMap({"waves": RolloutPolicy()}),
        waves=FrozenMap(
            {
                "stable": (
                    Wave(("web-01", "web-02"), 5, max_failures=scene.allowed),
                    Wave(scene.staged, 30, max_failures=scene.allowed),
                )
            }
        ),
        meta=_META,
        edges=scene.edges,
        channel_edges=(Edge("infra", "stable"),),
    )
