"""Where the files of a release are, for those who write one and those who read it. Names alone, no files.

    fleet.resolved.json  revocations.json  bootstrap-nonces.json  rollouts/<rollout id>.json

Beside each, with `.sig` after its name, the 64 bytes of its signature. The fleet must be there, the two lists may.
What a file name cannot hold of a rollout id is percent-encoded.
Source: docs/spec/trust.md, Release directory.
"""

from typing import Final
from urllib.parse import quote, unquote

from nixfleet_proto.ids import InvalidRolloutId, RolloutId

FLEET_FILE: Final = "fleet.resolved.json"
REVOCATIONS_FILE: Final = "revocations.json"
NONCES_FILE: Final = "bootstrap-nonces.json"
ROLLOUTS_DIRECTORY: Final = "rollouts"
SIGNATURE_SUFFIX: Final = ".sig"


def manifest_file(rollout_id: RolloutId) -> str:
    """Return the name, relative to its release, of the file of a rollout's manifest."""
    return f"{ROLLOUTS_DIRECTORY}/{quote(rollout_id, safe='@')}.json"


def rollout_of(name: str) -> RolloutId | None:
    """Return whose manifest is in the file of this name; `None` if it is not the name of a manifest."""
    text = unquote(name.removeprefix(f"{ROLLOUTS_DIRECTORY}/").removesuffix(".json"))
    try:
        rollout_id = RolloutId(text)
    except InvalidRolloutId:
        return None
    return rollout_id if name == manifest_file(rollout_id) else None
