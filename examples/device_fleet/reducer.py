"""Every decision of the device fleet: a fact comes in, the next state and the effects go out. Pure.

An arm of `step` says what a fact changes, and which devices and deployments that concerns. `_settled` compares each of
these pairs before and after, so no arm can forget an effect or a counter.
"""

from collections import Counter
from collections.abc import Collection
from typing import TypeAlias, TypeVar, assert_never

from attrs import asdict, evolve

from examples.device_fleet.model import (
    Counters,
    Deployment,
    DeploymentDeclared,
    DeploymentName,
    DeploymentRemoved,
    DeviceId,
    DeviceRegistered,
    DeviceRemoved,
    Effect,
    Fact,
    Fleet,
    HeartbeatReceived,
    Pair,
    PublishDesiredState,
    ReportCounters,
    StateObserved,
    WithdrawDesiredState,
)
from nixfleet import FrozenMap

K = TypeVar("K")
V = TypeVar("V")
Step: TypeAlias = tuple[Fleet, tuple[Effect, ...]]


def step(fleet: Fleet, fact: Fact) -> Step:
    """Return the fleet after `fact`, and the effects to carry out, in order.

    A fact that is old, or says nothing new, returns `fleet` itself and no effect.
    """
    match fact:
        case HeartbeatReceived(device, at):
            if device in fleet.heartbeats and at <= fleet.heartbeats[device]:
                return fleet, ()
            return evolve(fleet, heartbeats=fleet.heartbeats.with_item(device, at)), ()
        case StateObserved(pair):
            if pair in fleet.observed and fact.revision <= fleet.observed[pair].revision:
                return fleet, ()
            after = evolve(fleet, observed=fleet.observed.with_item(pair, fact))
            return _settled(fleet, after, [pair.device], [pair.deployment])
        case DeviceRegistered(device, labels):
            after = evolve(fleet, devices=fleet.devices.with_item(device, labels))
            return _settled(fleet, after, [device], fleet.deployments)
        case DeviceRemoved(device):
            after = evolve(fleet, devices=_without(fleet.devices, device))
            return _settled(fleet, after, [device], fleet.deployments)
        case DeploymentDeclared(name):
            return _settled(fleet, _declared(fleet, fact), fleet.devices, [name])
        case DeploymentRemoved(name):
            after = evolve(fleet, deployments=_without(fleet.deployments, name))
            return _settled(fleet, after, fleet.devices, [name])
        case _:
            assert_never(fact)


def reconciled(fleet: Fleet, published: Collection[Pair]) -> tuple[Effect, ...]:
    """Return the effects after which the world is as `fleet` has it, whatever an earlier process left undone.

    published: the pairs for which a desired state is published.
    """
    pairs = [Pair(device, name) for device in fleet.devices for name in fleet.deployments]
    desired = {pair: found for pair in pairs if (found := fleet.desired(pair)) is not None}
    return (
        *(WithdrawDesiredState(pair) for pair in published if pair not in desired),
        *(PublishDesiredState(*each) for each in desired.items()),
        *(ReportCounters(*each) for each in fleet.counters.items()),
    )


def _declared(fleet: Fleet, fact: DeploymentDeclared) -> Fleet:
    known = fleet.deployments.get(fact.name)
    if known is not None and (known.image, known.selector) == (fact.image, fact.selector):
        return fleet
    deployment = Deployment(fact.image, fact.selector, fleet.last_generation + 1)
    deployments = fleet.deployments.with_item(fact.name, deployment)
    return evolve(fleet, deployments=deployments, last_generation=deployment.generation)


def _settled(
    before: Fleet, after: Fleet, devices: Collection[DeviceId], names: Collection[DeploymentName]
) -> Step:
    """Return `after` with its counters, and the effects. Only pairs of `devices` and `names` may differ."""
    if after == before:
        return before, ()
    effects: list[Effect] = []
    counters = {name: known for name, known in before.counters.items() if name in after.deployments}
    for name in names:
        counts = Counter(asdict(before.counters.get(name, Counters())))
        for pair in (Pair(device, name) for device in devices):
            desired = after.desired(pair)
            if desired is not None and desired != before.desired(pair):
                effects.append(PublishDesiredState(pair, desired))
            elif desired is None and before.desired(pair) is not None:
                effects.append(WithdrawDesiredState(pair))
            counts.subtract(_in_phase(before, pair))
            counts.update(_in_phase(after, pair))
        if name in after.deployments and Counters(**counts) != before.counters.get(name):
            counters[name] = Counters(**counts)
            effects.append(ReportCounters(name, counters[name]))
    return evolve(after, counters=FrozenMap(counters)), tuple(effects)


def _in_phase(fleet: Fleet, pair: Pair) -> Counter[str]:
    phase = fleet.phase(pair)
    return Counter() if phase is None else Counter([phase.value])


def _without(items: FrozenMap[K, V], key: K) -> FrozenMap[K, V]:
    return FrozenMap((each, value) for each, value in items.items() if each != key)
