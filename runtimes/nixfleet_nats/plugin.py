"""`kind = "nats"`: reads the options of either side. Connects to nothing.

The client library is imported when something connects: without it, a configuration is refused by name and not with a
traceback.
"""

from contextlib import AbstractAsyncContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from nixfleet_nats.server_config import ACCOUNT_DEFAULT
from nixfleet_nats.target import FLEET_DEFAULT, Target, read_target
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import private_file
from nixfleet_runtime.kernel.clock import Clock, SystemClock
from nixfleet_runtime.transport import Transport

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from nixfleet_control_plane.service import ControlPlaneService


@frozen
class NatsAgent:
    """`[control_plane] kind = "nats"` of an agent."""

    target: Target

    def connect(
        self, hostname: str, key: SigningKey, clock: Clock
    ) -> AbstractAsyncContextManager[Transport]:
        """Open the way from the host to its control plane. key: the host's."""
        from nixfleet_nats.agent_end import connected

        return connected(self.target, hostname, key, clock)


@frozen
class NatsControlPlane:
    """`[transports.NAME] kind = "nats"` of a control plane. key_file: its key, whose public half the server knows."""

    target: Target
    key_file: Path
    account: str
    fleet: str

    def serve_requests(
        self, service: "ControlPlaneService", app: "ASGIApp"
    ) -> AbstractAsyncContextManager[None]:
        """Serve hosts while the context is open. Raises: NatsUnusable, InsecureKeyFile, MalformedKeyFile, OSError."""
        from nixfleet_nats.control_plane_end import ControlPlaneEnd

        key = SigningKey.load(self.key_file)
        end = ControlPlaneEnd(self.target, key, SystemClock(), self.account, self.fleet)
        return end.serve_requests(service, app)


def transport(section: Section) -> NatsAgent | NatsControlPlane:
    """Return the end that the section configures: an agent has one control plane, `[control_plane]`."""
    if find_spec("nats") is None:
        expected = "the extra: pip install 'nixfleet[nats]'"
        section.refuse("kind", "needs a package that is not installed", expected, "no nats-py")
    target = read_target(section)
    if section.name == "control_plane":
        return NatsAgent(target)
    key_file = section.path("key_file", private_file)
    account = section.text("account", ACCOUNT_DEFAULT)
    return NatsControlPlane(target, key_file, account, section.text("fleet", FLEET_DEFAULT))
