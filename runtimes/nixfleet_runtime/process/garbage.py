"""The collector of cycles, told what kind of process this is. For the entry points of processes: it is one for all.

What a control plane loads, or a check builds up, stays until the end; looking through it again and again for cycles
that are not there took half of a start with 35,000 hosts (benchmarks/cold_start.py).
"""

import gc

_THRESHOLDS = (50_000, 20, 100)


def expect_long_lives() -> None:
    """Look for garbage rarely from now on."""
    gc.set_threshold(*_THRESHOLDS)


def settle() -> None:
    """What lives now stays: never look at it again."""
    gc.collect()
    gc.freeze()
