"""The names of the headers that nixfleet uses, and the check of the protocol version.

Source: docs/spec/wire.md, Protocol version.
"""

import re
from typing import Final

from nixfleet_proto.wire import PROTOCOL_VERSION
from nixfleet_runtime.http.signing.refusal import UnsupportedProtocol

REPLAY_FROM: Final = "X-Nixfleet-Replay-From"
LEADER: Final = "X-Nixfleet-Leader"
PROTOCOL: Final = "X-Nixfleet-Protocol"
CONTENT_DIGEST: Final = "Content-Digest"
SIGNATURE: Final = "Signature"
SIGNATURE_INPUT: Final = "Signature-Input"
RETRY_AFTER: Final = "Retry-After"

_SAME_MAJOR = re.compile(rf"{PROTOCOL_VERSION}(\.\d+)*", re.ASCII)


def require_protocol(version: str | None) -> None:
    """Require that the value of an `X-Nixfleet-Protocol` header names this protocol version.

    Only the number before the first dot counts. `None`, for no header, means version 1, also in future releases: so
    `curl` works, and the tag of a signature contains the version too. Raises: UnsupportedProtocol.
    """
    meant = "1" if version is None else version
    if not _SAME_MAJOR.fullmatch(meant):
        raise UnsupportedProtocol(meant)
