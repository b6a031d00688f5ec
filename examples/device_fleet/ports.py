"""What the fleet needs of the world. What these Protocols pass is resolved: checked, and typed.

Only an `EnrollmentIntent` is the text of a stranger, and an `IdentityProvider` is who resolves it.
"""

from collections.abc import AsyncGenerator, Collection
from typing import Protocol

from attrs import field, frozen

from examples.device_fleet.model import (
    Deployment,
    DeviceId,
    DeviceRegistered,
    DeviceRemoved,
    HeartbeatReceived,
    Labels,
    Pair,
    StateObserved,
)
from nixfleet_proto.errors import NixfleetError


@frozen
class EnrollmentIntent:
    """A device asks to join, and says all of this itself. public_key: its nkey."""

    device: str
    public_key: str
    token: str = field(repr=False)


@frozen
class DeviceCredential:
    """A device may join. labels: what the fleet's owner says it is. subjects: of NATS, which its key may use."""

    device: DeviceId
    public_key: str
    labels: Labels
    subjects: tuple[str, ...]


class EnrollmentRefused(NixfleetError):
    """A device may not join. Attributes: `device`, `expected`."""

    def __init__(self, device: str, expected: str) -> None:
        super().__init__(f"{device!r} may not join: expected {expected}")
        self.device, self.expected = device, expected


class IdentityProvider(Protocol):
    """Decides who is who."""

    async def resolve(self, intent: EnrollmentIntent) -> DeviceCredential:
        """Return the credential for `intent`. Raises: EnrollmentRefused."""


class DeviceRegistry(Protocol):
    """The devices of the fleet."""

    async def register(self, credential: DeviceCredential) -> None:
        """Add the device, or replace what is known of it."""

    def changes(self) -> AsyncGenerator[DeviceRegistered | DeviceRemoved, None]:
        """Yield every device that is there, then each change."""


class DesiredStatePublisher(Protocol):
    """Where a device reads what it is to run. Both orders are idempotent."""

    async def publish(self, pair: Pair, deployment: Deployment) -> None:
        """Let the device read the deployment."""

    async def withdraw(self, pair: Pair) -> None:
        """Let the device read nothing for the pair."""

    async def published(self) -> Collection[Pair]:
        """Return the pairs for which a device reads something."""


class ObservedStateConsumer(Protocol):
    """What devices say."""

    def states(self) -> AsyncGenerator[StateObserved, None]:
        """Yield the last state of each device and deployment, then each change."""

    def heartbeats(self) -> AsyncGenerator[HeartbeatReceived, None]:
        """Yield the last heartbeat of each device, then each further one."""
