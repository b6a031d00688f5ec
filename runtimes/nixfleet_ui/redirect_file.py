"""The file that the browser opens first: it leads to the page, with the secret in the fragment.

A secret on a command line is in the list of processes, and one in a query is sent and logged. This file is readable by
its owner alone; the browser is given its name, follows it, and keeps the fragment to itself.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Final

_PAGE: Final = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0;url={url}">
<title>nixfleet</title>
<p><a href="{url}">Open the fleet's page</a></p>
"""


@contextmanager
def redirect_file(url: str, environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Yield the file, 0600 in a directory of its own (0700), while the context is open. Raises: OSError.

    url: with the secret in its fragment. environment: its XDG_RUNTIME_DIR is taken if it is a directory, since what is
    there is the user's alone and never reaches a disk.
    """
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    place = runtime if environment.get("XDG_RUNTIME_DIR") and runtime.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="nixfleet-ui-", dir=place) as directory:
        file = Path(directory) / "open.html"
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(_PAGE.format(url=escape(url)))
        yield file
