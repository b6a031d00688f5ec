"""An identity provider with tokens. Yours may ask Vault, Zitadel or a TPM: it only has to return a credential."""

from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest

from attrs import frozen

from examples.device_fleet.model import DeviceId, Labels
from examples.device_fleet.ports import DeviceCredential, EnrollmentIntent, EnrollmentRefused


@frozen
class Expected:
    """A device that may join. token_hash: SHA-256 of its token."""

    token_hash: bytes
    labels: Labels


class TokenIdentities:
    """Lets each expected device join with its token. A token is good for one key, however often it is presented."""

    def __init__(self, expected: Mapping[DeviceId, Expected]) -> None:
        self._expected = expected
        self._keys: dict[DeviceId, str] = {}

    async def resolve(self, intent: EnrollmentIntent) -> DeviceCredential:
        """Return the credential for `intent`. Raises: EnrollmentRefused."""
        device = DeviceId(intent.device)
        expected = self._expected.get(device)
        given = sha256(intent.token.encode(errors="replace")).digest()
        # One answer for both: a stranger does not learn which devices are expected.
        if expected is None or not compare_digest(given, expected.token_hash):
            raise EnrollmentRefused(intent.device, "the token that was made for it")
        if self._keys.setdefault(device, intent.public_key) != intent.public_key:
            raise EnrollmentRefused(intent.device, "the key that joined with this token")
        subjects = (
            f"$KV.device-state.state.{device}.>",
            f"$KV.device-heartbeat.{device}",
            f"$KV.desired-state.{device}.>",
        )
        return DeviceCredential(device, intent.public_key, expected.labels, subjects)
