"""The fleet as data: facts that happened, effects to carry out, and the state between them. No I/O, no clock."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, NewType, TypeAlias

from attrs import frozen

from nixfleet import FrozenMap

DeviceId = NewType("DeviceId", str)
DeploymentName = NewType("DeploymentName", str)
Labels: TypeAlias = FrozenMap[str, str]

HEARTBEAT_TTL: Final = timedelta(seconds=60)


class Pair(NamedTuple):
    """One deployment on one device."""

    device: DeviceId
    deployment: DeploymentName


class Phase(StrEnum):
    """The device says that the deployment is …"""

    PENDING = "pending"
    RUNNING = "running"
    FAILED = "failed"


@frozen
class Deployment:
    """What to run, and on which devices. generation: higher after every change of any deployment."""

    image: str
    selector: Labels
    generation: int

    def selects(self, labels: Labels) -> bool:
        """Return whether `labels` has every label of the selector; an empty selector selects every device."""
        return self.selector.items() <= labels.items()


# Facts: what happened.


@frozen
class DeploymentDeclared:
    """A person declared a deployment, or changed it."""

    name: DeploymentName
    image: str
    selector: Labels


@frozen
class DeploymentRemoved:
    """A person removed a deployment."""

    name: DeploymentName


@frozen
class DeviceRegistered:
    """A device is in the registry, with these labels."""

    device: DeviceId
    labels: Labels


@frozen
class DeviceRemoved:
    """A device is no longer in the registry."""

    device: DeviceId


@frozen
class StateObserved:
    """A device said what it runs. generation: of the deployment that it runs; 0: none.

    revision: of the entry in the bucket, so a later one is higher. error: the device's own words.
    """

    pair: Pair
    phase: Phase
    generation: int
    revision: int
    error: str = ""


@frozen
class HeartbeatReceived:
    """A device said that it lives. at: when the bucket took it, by the clock of its server."""

    device: DeviceId
    at: datetime


DeploymentFact: TypeAlias = DeploymentDeclared | DeploymentRemoved
DeviceFact: TypeAlias = DeviceRegistered | DeviceRemoved | StateObserved | HeartbeatReceived
Fact: TypeAlias = DeploymentFact | DeviceFact


# State: what follows from the facts.


@frozen
class Counters:
    """How many devices a deployment selects, by what they say of its current generation."""

    pending: int = 0
    running: int = 0
    failed: int = 0


@frozen
class Fleet:
    """The state. observed: what each device said last. heartbeats: when it said so last."""

    devices: FrozenMap[DeviceId, Labels] = FrozenMap()
    deployments: FrozenMap[DeploymentName, Deployment] = FrozenMap()
    observed: FrozenMap[Pair, StateObserved] = FrozenMap()
    counters: FrozenMap[DeploymentName, Counters] = FrozenMap()
    heartbeats: FrozenMap[DeviceId, datetime] = FrozenMap()
    last_generation: int = 0

    def desired(self, pair: Pair) -> Deployment | None:
        """Return the deployment, if it is there and selects the device."""
        labels, deployment = self.devices.get(pair.device), self.deployments.get(pair.deployment)
        if labels is None or deployment is None or not deployment.selects(labels):
            return None
        return deployment

    def phase(self, pair: Pair) -> Phase | None:
        """Return what the device says of the current generation; `None`: the deployment does not select it."""
        desired, observed = self.desired(pair), self.observed.get(pair)
        if desired is None:
            return None
        if observed is None or observed.generation != desired.generation:
            return Phase.PENDING
        return observed.phase

    def is_online(self, device: DeviceId, now: datetime) -> bool:
        """Return whether a heartbeat of the device came within `HEARTBEAT_TTL` before `now`."""
        last = self.heartbeats.get(device)
        return last is not None and now - last < HEARTBEAT_TTL


# Effects: what is to be done.


@frozen
class PublishDesiredState:
    """Tell the device to run the deployment, as it is now."""

    pair: Pair
    deployment: Deployment


@frozen
class WithdrawDesiredState:
    """Tell the device to run the deployment no longer."""

    pair: Pair


@frozen
class ReportCounters:
    """Show people how a deployment stands."""

    name: DeploymentName
    counters: Counters


Effect: TypeAlias = PublishDesiredState | WithdrawDesiredState | ReportCounters
