"""Why a NATS server cannot be used. Each error says what to do; none shows a key."""

from nixfleet_runtime.transport import TransportUnusable


class NatsUnusable(TransportUnusable):
    """The server cannot be used. Attributes: `where`, `expected`, `found`, `remedy`: what to do."""

    def __init__(self, where: str, expected: str, found: str, remedy: str) -> None:
        super().__init__(where, expected, found, remedy)
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}; {self.remedy}"


class ServerUnreachable(NatsUnusable):
    """No server answers there."""


class LoginRefused(NatsUnusable):
    """The server does not let this key in."""


class ServerAsksNoProof(NatsUnusable):
    """The server lets everyone in: it asks nobody to prove a key."""


class ServerTooOld(NatsUnusable):
    """The server's version is not supported."""


class JetStreamMissing(NatsUnusable):
    """The server, or the account, has no JetStream: there are no buckets."""


class BucketUnfit(NatsUnusable):
    """A bucket of this name is there, with other settings."""


class AnotherFleet(NatsUnusable):
    """The buckets of this prefix belong to another fleet."""


class PermissionMissing(NatsUnusable):
    """The control plane's user may not do what it needs."""


class PayloadTooLarge(NatsUnusable):
    """A message is larger than the server takes. Nothing was sent."""
