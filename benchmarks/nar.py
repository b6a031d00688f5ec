"""nar: naming a closure by the hash of its archive, against plain SHA-256 of the same files' bytes, on one core.

Two trees: programs (few files, large) and a system's `etc` and `share` (many, small), warm in the page cache. Plain
SHA-256 reads the files in a known order and hashes nothing but their contents. Where Nix is installed, its own
`nix-hash` is measured beside ours, the start of its process included.
"""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attrs import evolve

from benchmarks.harness import Contender, Figure, Scale, race, ratio, scratch
from nixfleet_runtime.releases.nar import nar_hash

MEGABYTE = 1_000_000
AT_MOST_TIMES_PLAIN = 1.15
KINDS = {"NAR": "ours", "plain SHA-256": "limit", "nix-hash": "peer"}


def figures(scale: Scale) -> Iterator[Figure]:
    """Yield megabytes of contents per second, and how many times as long as plain SHA-256 ours takes."""
    with scratch() as directory:
        large = _plant(directory / "large", scale.pick(32, 8, 1), 8 * MEGABYTE)
        yield from _of_tree(scale, "large files", large, AT_MOST_TIMES_PLAIN)
        small = _plant(directory / "small", scale.pick(16_000, 4_000, 600), 2_000)
        yield from _of_tree(scale, "small files", small)


def _of_tree(
    scale: Scale, what: str, files: list[Path], at_most: float | None = None
) -> Iterator[Figure]:
    tree = files[0].parents[1]
    contenders = {
        "NAR": _timed(files, lambda: nar_hash(tree)),
        "plain SHA-256": _timed(files, lambda: _plain(files)),
    }
    nix_hash = shutil.which("nix-hash")
    if nix_hash is not None:
        contenders["nix-hash"] = _timed(files, partial(_printed, nix_hash, tree))
    rates = {name: evolve(it, workload="nar") for name, it in race(scale, contenders).items()}
    for name, rate in rates.items():
        yield evolve(rate, name=f"{name}, {what}", unit="MB/s", kind=KINDS[name])
    times = f"time of NAR / plain, {what}"
    yield ratio(times, rates["plain SHA-256"], rates["NAR"], at_most=at_most)


def _plant(tree: Path, count: int, size: int) -> list[Path]:
    """Make a tree of `count` files of `size` bytes, a hundred to a directory, and return the files."""
    files = [tree / f"{number // 100:04}" / f"{number:06}" for number in range(count)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(hashlib.sha256(file.name.encode()).digest() * (size // 32))
    return files


def _timed(files: list[Path], hash_them: Callable[[], object]) -> Contender:
    megabytes = sum(file.stat().st_size for file in files) // MEGABYTE

    def run() -> int:
        hash_them()
        return megabytes

    return lambda: run


def _plain(files: list[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(256 * 1024):
                digest.update(chunk)
    return digest.digest()


def _printed(nix_hash: str, tree: Path) -> bytes:
    command = [nix_hash, "--type", "sha256", "--base32", str(tree)]
    return subprocess.run(command, capture_output=True, check=True).stdout
