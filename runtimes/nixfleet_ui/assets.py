"""The files of the page, read once. A request names one of them or nothing: no path of a request reaches the disk."""

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from attrs import frozen

TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served, by its ending. The declarations of types beside the modules are for a type checker alone."""


@frozen
class Asset:
    """A file of the page."""

    content: bytes
    media_type: str


def load_assets() -> Mapping[str, Asset]:
    """Return the files of the page by the path of a request. `/` is the document."""
    found = dict(_below(files("nixfleet_ui").joinpath("page"), "/"))
    return {**found, "/": found["/index.html"]}


def _below(directory: Traversable, path: str) -> Mapping[str, Asset]:
    found: dict[str, Asset] = {}
    for each in directory.iterdir():
        if each.is_dir():
            found |= _below(each, f"{path}{each.name}/")
            continue
        media_type = TYPES.get(each.name[each.name.rfind(".") :])
        if media_type is not None:
            found[f"{path}{each.name}"] = Asset(each.read_bytes(), media_type)
    return found
