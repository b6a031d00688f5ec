"""A checkpoint of a log: what it holds at one time, signed by someone other than the control plane. Data.

Source: docs/spec/log-proofs.md, Checkpoints.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import at_least, checked
from nixfleet_proto.errors import ValueProblem

CI: Final = "ci"
"""The signer's name of a checkpoint that is signed with the release key."""
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@frozen
@checked
class Checkpoint:
    """The first `rows` rows of a log, as `signer` found them.

    rows: at least one. head, root: the hash of the last of them and the root of their Merkle tree, in hex.
    signer: the name of an operator, or `CI`.
    """

    rows: int
    head: str
    root: str
    signer: str
    signed_at: datetime

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("rows", self.rows, 1)
        for field, value in (("head", self.head), ("root", self.root)):
            if not _HASH.fullmatch(value):
                expected = "64 lower-case hexadecimal digits"
                yield ValueProblem(field, expected, f"{value[:80]!r}")


@frozen
@checked
class SignedCheckpoint:
    """A checkpoint and its signature, 128 hexadecimal digits."""

    checkpoint: Checkpoint
    signature: str
