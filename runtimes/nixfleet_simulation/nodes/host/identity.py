"""What makes a host itself: its key and its token. They outlive the agent's process and its journal."""

from datetime import datetime

from nixfleet_agent.network.enrollment import OwnKey
from nixfleet_proto.enrollment import SignedToken
from nixfleet_proto.signing import SigningKey
from nixfleet_simulation.nodes.ci import host_key
from nixfleet_simulation.nodes.signed_requests import Request, RequestSigner, SignedRequest
from nixfleet_simulation.scenario.randomness import Seed


class HostIdentity:
    """The key and the token of one host.

    is_enrolling: whether its agent is about to enroll, or has tried and was not enrolled.
    """

    def __init__(self, seed: Seed, hostname: str, signer: RequestSigner) -> None:
        self.token: SignedToken | None = None
        self.is_enrolling = False
        self._seed = seed
        self._hostname = hostname
        self._signer = signer
        self._keys_made = 0
        self.key: SigningKey = host_key(seed, hostname)

    @property
    def own(self) -> OwnKey:
        """The key as the agent's parts take it."""
        return OwnKey(self.key, is_new=False)

    def make_new_key(self) -> None:
        """Lose the key and the token, and make a new key."""
        self._keys_made += 1
        self.key = host_key(self._seed, self._hostname, self._keys_made)
        self.token = None

    def signed(self, request: Request, now: datetime, hostname: str = "") -> SignedRequest:
        """Return `request`, signed with this host's key, as `hostname`; empty: as this host."""
        return self._signer.signed(request, hostname or self._hostname, self.key, now)
