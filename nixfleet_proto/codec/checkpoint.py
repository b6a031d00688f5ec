"""Checkpoints of logs and proofs from logs, as bytes.

Source: docs/spec/log-proofs.md.
"""

from typing import Final

from nixfleet_proto.audit.checkpoint import Checkpoint, SignedCheckpoint
from nixfleet_proto.audit.proof import LogProof
from nixfleet_proto.codec.artefact import ARTEFACT_SPELLING
from nixfleet_proto.codec.strict import Coder

_DOMAIN: Final = b"nixfleet log checkpoint\n"


def checkpoint_payload(checkpoint: Checkpoint) -> bytes:
    """Return the bytes that the signature of a checkpoint covers: nothing else that is signed begins like them."""
    return _DOMAIN + _CHECKPOINT.encode_canonical(checkpoint)


_CHECKPOINT = Coder[Checkpoint](ARTEFACT_SPELLING, Checkpoint, "checkpoint")
SIGNED_CHECKPOINT: Final = Coder[SignedCheckpoint](
    ARTEFACT_SPELLING, SignedCheckpoint, "signed checkpoint"
)
LOG_PROOF: Final = Coder[LogProof](ARTEFACT_SPELLING, LogProof, "log proof")
