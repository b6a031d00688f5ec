"""The files of the page: what they may hold, and that the one that is not ours is the one we chose."""

import hashlib
import re
from pathlib import Path

import pytest

from nixfleet_ui.assets import load_assets

PAGE = Path("runtimes/nixfleet_ui/page")
LIT_HTML_SHA256 = "b878e7f95dec8a9b6e9b217faca6b6a11bad82ebc44c0caa77419ed83edd81f2"
"""Of lit-html.js in lit-html 3.3.3 as npm has it."""
MODULES = sorted(path for path in PAGE.rglob("*.js") if path.parent.name != "vendor")


def test_the_vendored_file_is_unchanged() -> None:
    """lit-html 3.3.3, with its licence beside it; nothing else is vendored."""
    vendored = {path.name for path in (PAGE / "vendor").iterdir()}
    assert vendored == {"lit-html-3.3.3.js", "lit-html-3.3.3.d.ts", "lit-html-LICENSE"}
    content = (PAGE / "vendor" / "lit-html-3.3.3.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == LIT_HTML_SHA256


def test_only_what_a_browser_needs_is_served() -> None:
    """No declarations of types, no licence text; `/` is the document."""
    assets = load_assets()
    assert {path.rpartition(".")[2] for path in assets if path != "/"} == {
        "html",
        "js",
        "css",
        "svg",
    }
    assert assets["/"] == assets["/index.html"]


def test_the_document_has_nothing_inline() -> None:
    """The content security policy would not let it."""
    text = (PAGE / "index.html").read_text()
    assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", text)
    assert re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL) == [""]


def test_the_document_names_every_module() -> None:
    """So that they are fetched together, and not one after the other as each is read."""
    text = (PAGE / "index.html").read_text()
    named = set(re.findall(r'(?:modulepreload" href|type="module" src)="([^"]+)"', text))
    assert named == {str(path.relative_to(PAGE)) for path in PAGE.rglob("*.js")}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_makes_no_markup_of_text(module: Path) -> None:
    """Text is bound as text: nothing parses it, and no style attribute is written."""
    text = module.read_text()
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|unsafeHTML|\beval\(|new Function|\sstyle=|https?://"
    assert not re.findall(forbidden, text)


def test_nothing_is_fetched_from_elsewhere() -> None:
    """The page works on a machine without a network: every import and link is a file of its own."""
    for path in PAGE.rglob("*"):
        if path.suffix in {".css", ".html"}:
            assert not re.search(r"url\(|@import|(?:src|href)=\"(?:https?:)?//", path.read_text())
