"""Which machine measured, in words that let a reader compare."""

import os
import platform
import sqlite3
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "attrs", "anyio", "orjson", "cattrs", "pynacl", "uvicorn", "starlette", "uvloop",
    "transitions", "python-statemachine", "automat", "eventsourcing",
)  # fmt: skip


def described() -> dict[str, str]:
    """Return what matters of the machine, in order."""
    return {
        "processor": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "sqlite": sqlite3.sqlite_version,
        "libraries": ", ".join(f"{name} {found}" for name in LIBRARIES if (found := _found(name))),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _found(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
