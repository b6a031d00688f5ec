"""The names of the headers that nixfleet gives a meaning, and the check of the protocol's version.

Source: docs/spec/wire.md, Protocol version.
"""

import re
from typing import Final

from nixfleet_proto.wire import PROTOCOL_VERSION
from nixfleet_runtime.http.signing.refusal import UnsupportedProtocol

REPLAY_FROM: Final = "X-Nixfleet-Replay-From"
PROTOCOL: Final = "X-Nixfleet-Protocol"
CONTENT_DIGEST: Final = "Content-Digest"
SIGNATURE: Final = "Signature"
SIGNATURE_INPUT: Final = "Signature-Input"
RETRY_AFTER: Final = "Retry-After"

_SAME_MAJOR = re.compile(rf"{PROTOCOL_VERSION}(\.\d+)*", re.ASCII)


def require_protocol(version: str | None) -> None:
    """Return if a request with `version` in its `X-Nixfleet-Protocol` header is one of this protocol.

    Only the number before the first dot counts. No header means version 1, in all releases to come: `curl` works,
    and a signed request says its version in its tag as well.
    Raises: UnsupportedProtocol.
    """
    meant = "1" if version is None else version
    if not _SAME_MAJOR.fullmatch(meant):
        raise UnsupportedProtocol(meant)
