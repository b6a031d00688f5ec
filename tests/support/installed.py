"""Distributions that exist for a test alone: modules and entry points in a directory on the path."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    directory: Path, name: str, modules: Mapping[str, str], entry_points: Mapping[str, str]
) -> Path:
    """Put the distribution `name` 1.0 into `directory`. entry_points: by group, lines as `name = module:object`."""
    directory.mkdir(exist_ok=True)
    for module, text in modules.items():
        (directory / f"{module}.py").write_text(text)
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (f"[{group}]\n{lines}\n" for group, lines in entry_points.items())
    (info / "entry_points.txt").write_text("\n".join(groups))
    return directory


def use(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Let this process find what is installed in `directory`, until the end of the test."""
    monkeypatch.syspath_prepend(directory)
    importlib.invalidate_caches()
    for file in directory.glob("*.py"):
        monkeypatch.delitem(sys.modules, file.stem, raising=False)
