"""The page's modules are typed against the API's document, and a type checker finds nothing wrong."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from nixfleet_control_plane.http.routes.log import KINDS
from tools.ui.api_types import DOCUMENT, api_types

PAGE = Path("runtimes/nixfleet_ui/page")


def test_the_types_are_those_of_the_document() -> None:
    """Rewritten by the command that the file names."""
    assert (PAGE / "types/api.d.ts").read_text() == api_types(json.loads(DOCUMENT.read_text()))


@pytest.mark.skipif(
    shutil.which("tsc") is None, reason="needs tsc: apt-get install node-typescript"
)
def test_the_modules_are_typed() -> None:
    """Strictly, with every field of an answer that may be left out."""
    done = subprocess.run(["tsc", "-p", str(PAGE)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


def test_the_kinds_of_rows_are_those_of_the_api() -> None:
    """The filter of the story offers what the feed takes, without what only a report of several facts is."""
    text = (PAGE / "screens/story.js").read_text()
    listed = text.partition("export const KINDS = [")[2].partition("]")[0]
    kinds = {it.strip().strip('"') for it in listed.split(",") if it.strip()}
    assert kinds == set(KINDS) - {"agent_events", "verify_outcome"}
