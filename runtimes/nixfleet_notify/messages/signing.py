"""Signatures of webhooks, as Standard Webhooks has them: HMAC-SHA-256 over id, time and body. Pure.

While a secret is replaced, both sign: a receiver takes a message if one signature is by a secret that it knows.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Final

from nixfleet_proto.errors import NixfleetError

PREFIX: Final = "whsec_"
SECRET_BYTES_MIN: Final = 24
SECRET_BYTES_MAX: Final = 64
EXPECTED: Final = (
    f"{PREFIX} and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes"
)


class MalformedSecret(NixfleetError):
    """A file holds no secret of a webhook. The text says what was expected, and nothing of what was found."""

    def __init__(self) -> None:
        super().__init__(EXPECTED)

    def __str__(self) -> str:
        return f"expected {EXPECTED}, found something else"


def secret_of(text: str) -> bytes:
    """Return the key that a secret in text form stands for. Raises: MalformedSecret."""
    stripped = text.strip()
    try:
        key = b64decode(stripped.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedSecret from error
    if not stripped.startswith(PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise MalformedSecret
    return key


def signed_headers(
    message_id: str, body: bytes, now: datetime, secrets: Iterable[bytes]
) -> dict[str, str]:
    """Return the headers of one attempt. secrets: all that sign, the current one first; none: no signature."""
    timestamp = str(int(now.timestamp()))
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp}
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = [f"v1,{b64encode(hmac.digest(key, content, sha256)).decode()}" for key in secrets]
    if signatures:
        headers["webhook-signature"] = " ".join(signatures)
    return headers
