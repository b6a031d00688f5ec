"""Names of closures that are no store paths: images, commits, versions. What a command's argument can safely be."""

import re
from typing import Final

CLOSURE_NAME_EXPECTED: Final = (
    "up to 255 letters, digits and ._+:/@=~-, a letter or digit first, and no part '..'"
)
# One argument, one line, one option's value; never an option itself, and no way out of a directory.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:/@=~-]{0,254}")


def is_closure_name(text: str) -> bool:
    """Return whether `text` can name a closure to a command."""
    return _NAME.fullmatch(text) is not None and ".." not in text.split("/")
