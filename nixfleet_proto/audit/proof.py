"""A proof from a log: rows, and that they stand in the log that a checkpoint names. Data.

Source: docs/spec/log-proofs.md, Proofs.
"""

from attrs import frozen

from nixfleet_proto.audit.checkpoint import SignedCheckpoint
from nixfleet_proto.checked import checked


@frozen
@checked
class ProvedRow:
    """One row.

    text: its columns, as the hash chain has them. path: the hashes to the root, in hex, the lowest first.
    """

    seq: int
    prev_hash: str
    text: str
    path: tuple[str, ...]


@frozen
@checked
class LogProof:
    """Rows of the log under `checkpoint`, and optionally that it continues the log under an earlier one.

    continued: the hashes that show that `earlier` is a beginning of it, in hex.
    """

    checkpoint: SignedCheckpoint
    rows: tuple[ProvedRow, ...] = ()
    earlier: SignedCheckpoint | None = None
    continued: tuple[str, ...] = ()
