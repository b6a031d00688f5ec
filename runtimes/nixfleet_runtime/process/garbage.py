"""Settings of the garbage collector. Called only from entry points, because they affect the whole process.

The objects that a control plane loads, or a check builds, live until the process ends. Searching them repeatedly for
cycles took half of the time of a start with 35,000 hosts (benchmarks/cold_start.py).
"""

import gc

_THRESHOLDS = (50_000, 20, 100)


def collect_rarely() -> None:
    """Collect garbage rarely from now on."""
    gc.set_threshold(*_THRESHOLDS)


def freeze() -> None:
    """Exclude all live objects from future collections."""
    gc.collect()
    gc.freeze()
