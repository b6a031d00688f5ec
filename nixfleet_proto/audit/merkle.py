"""The Merkle tree over the rows of a log, and proofs in it. Pure functions of hashes.

The leaf of a row is its hash in the chain. All hashes are SHA-256, 32 bytes. Sizes count leaves; an index begins at 0.
Source: RFC 9162, section 2.1; docs/spec/log-proofs.md.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from attrs import frozen

from nixfleet_proto.errors import NixfleetError

LEAF: Final = b"\0"
NODE: Final = b"\1"
# A leaf never has the hash of a node, so that no part of the tree can be shown as a row.


@frozen
class ProofFails(NixfleetError):
    """A proof does not lead to the root of its checkpoint. expected, found: in words."""

    expected: str
    found: str

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}: the proof does not hold"


def leaf_hash(row_hash: bytes) -> bytes:
    """Return the hash of the leaf of a row."""
    return sha256(LEAF + row_hash).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two subtrees."""
    return sha256(NODE + left + right).digest()


def root_of(row_hashes: Iterable[bytes]) -> bytes:
    """Return the root of the tree over all rows, SHA-256 of nothing for none; in memory that grows with the height."""
    # Complete subtrees from left to right, with their sizes: each is larger than the next, as the bits of a number.
    complete: list[tuple[int, bytes]] = []
    for row_hash in row_hashes:
        size, subtree = 1, leaf_hash(row_hash)
        while complete and complete[-1][0] == size:
            _, left = complete.pop()
            size, subtree = 2 * size, node_hash(left, subtree)
        complete.append((size, subtree))
    if not complete:
        return sha256().digest()
    _, root = complete.pop()
    while complete:
        _, left = complete.pop()
        root = node_hash(left, root)
    return root


def inclusion_path(row_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the hashes that lead from the row at `index` to the root, the lowest first.

    Raises: IndexError.
    """
    if not 0 <= index < len(row_hashes):
        raise IndexError(index)
    path: list[bytes] = []
    low, high = 0, len(row_hashes)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(root_of(row_hashes[middle:high]))
            high = middle
        else:
            path.append(root_of(row_hashes[low:middle]))
            low = middle
    return tuple(reversed(path))


def consistency_path(row_hashes: Sequence[bytes], earlier_size: int) -> tuple[bytes, ...]:
    """Return the hashes that show that the first `earlier_size` rows are a beginning of all.

    Raises: IndexError, when there are not as many, or none.
    """
    if not 0 < earlier_size <= len(row_hashes):
        raise IndexError(earlier_size)
    path: list[bytes] = []
    low, high = 0, len(row_hashes)
    # The part of the earlier tree is a subtree of the later one as well, from where it ends with it.
    while earlier_size != high:
        middle = low + _split(high - low)
        if earlier_size <= middle:
            path.append(root_of(row_hashes[middle:high]))
            high = middle
        else:
            path.append(root_of(row_hashes[low:middle]))
            low = middle
    if low > 0:
        path.append(root_of(row_hashes[low:high]))
    return tuple(reversed(path))


def require_included(
    row_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Return if the row is number `index` of the `size` rows under `root`. Raises: ProofFails."""
    if not 0 <= index < size:
        raise ProofFails(f"one of {size} rows", f"row {index + 1}")
    place, last, found = index, size - 1, leaf_hash(row_hash)
    for sibling in path:
        if last == 0:
            raise ProofFails("as many hashes as the tree has levels", f"{len(path)}")
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofFails("as many hashes as the tree has levels", f"{len(path)}")
    _require_root(root, found)


def require_continued(
    earlier_size: int, earlier_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Return if the `earlier_size` rows under `earlier_root` are the first of the `size` under `root`.

    Raises: ProofFails.
    """
    if not 0 < earlier_size <= size:
        raise ProofFails(f"a checkpoint of 1 to {size} rows", f"one of {earlier_size}")
    if earlier_size == size:
        if path:
            raise ProofFails("no hash, for both have the same rows", f"{len(path)}")
        _require_root(root, earlier_root)
        return
    place, last = earlier_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    # An earlier tree that is complete is a subtree itself, and is not sent.
    hashes = [earlier_root, *path] if place == 0 else list(path)
    if not hashes:
        raise ProofFails("at least one hash", "none")
    earlier = later = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofFails("as many hashes as the trees differ in", f"{len(path)}")
        if place & 1 or place == last:
            earlier, later = node_hash(sibling, earlier), node_hash(sibling, later)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            later = node_hash(later, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofFails("as many hashes as the trees differ in", f"{len(path)}")
    _require_root(earlier_root, earlier)
    _require_root(root, later)


def _require_root(root: bytes, found: bytes) -> None:
    if root != found:
        raise ProofFails(f"root {root.hex()}", found.hex())


def _split(size: int) -> int:
    """Return how many leaves the left subtree has: the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
