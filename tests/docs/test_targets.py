"""Every `make` target that README.md and CONTRIBUTING.md name exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_every_target_that_a_page_names_is_in_the_makefile() -> None:
    """`make X` in README and CONTRIBUTING is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    pages = (README, ROOT / "CONTRIBUTING.md")
    named = {
        it
        for page in pages
        for it in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    }

    assert {"demo", "test"} <= named
    assert named <= targets
