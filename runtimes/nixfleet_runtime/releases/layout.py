"""The file names of a release, for writing and reading. Names only, no I/O.

    fleet.resolved.json  revocations.json  bootstrap-nonces.json  rollouts/<rollout id>.json

Beside each file is its signature of 64 bytes, with the suffix `.sig`. The fleet is required; the two lists are
optional. So is `history.json`, which is not signed: the refs of every channel so far, for the declaring side.
Characters of a rollout id that a file name cannot contain are percent-encoded.
Source: docs/spec/trust.md, Release directory.
"""

from typing import Final
from urllib.parse import quote, unquote

from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_runtime.storage.regular_file import LARGE_FILE_BYTES_MAX

FLEET_FILE: Final = "fleet.resolved.json"
REVOCATIONS_FILE: Final = "revocations.json"
NONCES_FILE: Final = "bootstrap-nonces.json"
HISTORY_FILE: Final = "history.json"
ROLLOUTS_DIRECTORY: Final = "rollouts"
SIGNATURE_SUFFIX: Final = ".sig"
MANIFEST_BYTES_MAX: Final = 64 * 1024 * 1024
"""The largest manifest that a control plane reads and an agent fetches. 100,000 hosts take about a third."""


def bytes_max_of(name: str) -> int:
    """Return how long an artefact with this file name may be: what its receivers read at most."""
    is_manifest = name.startswith(f"{ROLLOUTS_DIRECTORY}/")
    return MANIFEST_BYTES_MAX if is_manifest else LARGE_FILE_BYTES_MAX


def manifest_file(rollout_id: RolloutId) -> str:
    """Return the file name of a rollout's manifest, relative to the release."""
    return f"{ROLLOUTS_DIRECTORY}/{quote(rollout_id, safe='@')}.json"


def rollout_of(name: str) -> RolloutId | None:
    """Return the rollout whose manifest has this file name; `None` if it is not the name of a manifest."""
    text = unquote(name.removeprefix(f"{ROLLOUTS_DIRECTORY}/").removesuffix(".json"))
    try:
        rollout_id = RolloutId(text)
    except InvalidRolloutId:
        return None
    return rollout_id if name == manifest_file(rollout_id) else None
