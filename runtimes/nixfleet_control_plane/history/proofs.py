"""Makes checkpoints of a log and proofs from it, and checks a log against checkpoints of earlier times.

The log is read; nothing is written. What a checkpoint says can be checked without the log: nixfleet_proto.audit.
Source: docs/spec/log-proofs.md.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice

from attrs import define

from nixfleet_control_plane.messages.log_entry import (
    FIRST_PREV_HASH,
    LogRow,
    canonical_row,
    chain_hash,
)
from nixfleet_proto.audit.checkpoint import Checkpoint, SignedCheckpoint
from nixfleet_proto.audit.merkle import consistency_path, inclusion_path, root_of
from nixfleet_proto.audit.proof import LogProof, ProvedRow
from nixfleet_proto.errors import NixfleetError


@define
class LogDiffers(NixfleetError):
    """A log does not begin with the rows that a checkpoint names. expected, found: in words."""

    rows: int
    expected: str
    found: str

    def __str__(self) -> str:
        return (
            f"the log does not continue the checkpoint of {self.rows} rows: expected {self.expected}, found "
            f"{self.found}; rows were cut off or rewritten after it was signed"
        )


@define
class NoSuchRow(NixfleetError):
    """A row that is to be proved is not under the checkpoint. Its rows are 1 to `rows`."""

    seq: int
    rows: int

    def __str__(self) -> str:
        return f"expected a row from 1 to {self.rows}, which the checkpoint has, found {self.seq}"


def row_hashes(rows: Iterable[LogRow]) -> tuple[bytes, ...]:
    """Return the hash of each of `rows`, which are a whole log in order: 32 bytes a row."""
    hashes: list[bytes] = []
    head = FIRST_PREV_HASH
    for row in rows:
        head = chain_hash(head, row)
        hashes.append(head)
    return tuple(hashes)


def checkpoint_of(hashes: Sequence[bytes], signer: str, now: datetime) -> Checkpoint:
    """Return the checkpoint of a log of these rows. Raises: InvalidValue, for a log without any."""
    head = hashes[-1] if hashes else FIRST_PREV_HASH
    return Checkpoint(len(hashes), head.hex(), root_of(hashes).hex(), signer, now)


def require_continues(hashes: Sequence[bytes], checkpoint: Checkpoint) -> None:
    """Return if the log begins with the rows under `checkpoint`. Raises: LogDiffers."""
    rows = checkpoint.rows
    if len(hashes) < rows:
        raise LogDiffers(rows, f"at least {rows} rows", f"{len(hashes)}")
    for name, expected, found in (
        ("head", checkpoint.head, hashes[rows - 1].hex()),
        ("root", checkpoint.root, root_of(hashes[:rows]).hex()),
    ):
        if expected != found:
            raise LogDiffers(rows, f"{name} {expected}", found)


def prove(
    hashes: Sequence[bytes],
    signed: SignedCheckpoint,
    seqs: Iterable[int],
    rows: Callable[[], Iterable[LogRow]],
    earlier: SignedCheckpoint | None = None,
) -> LogProof:
    """Return the proof that rows `seqs` are under the checkpoint, and that it continues the `earlier` one.

    hashes: of the whole log, from `row_hashes`. rows: returns the rows of the log in order, from the first on.
    Raises: LogDiffers, when the log is not the one of a checkpoint; NoSuchRow.
    """
    require_continues(hashes, signed.checkpoint)
    size = signed.checkpoint.rows
    under = hashes[:size]
    continued: tuple[bytes, ...] = ()
    if earlier is not None:
        require_continues(under, earlier.checkpoint)
        continued = consistency_path(under, earlier.checkpoint.rows)
    wanted = set(seqs)
    for seq in sorted(wanted):
        if not 1 <= seq <= size:
            raise NoSuchRow(seq, size)
    found = islice((row for row in rows() if row.seq in wanted), len(wanted)) if wanted else ()
    proved = tuple(_proved(row, under) for row in found)
    return LogProof(signed, proved, earlier, _hex(continued))


def _proved(row: LogRow, under: Sequence[bytes]) -> ProvedRow:
    prev_hash = under[row.seq - 2] if row.seq > 1 else FIRST_PREV_HASH
    path = _hex(inclusion_path(under, row.seq - 1))
    return ProvedRow(row.seq, prev_hash.hex(), canonical_row(row).decode(), path)


def _hex(hashes: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(each.hex() for each in hashes)
