"""How long a line may be where it is read: as wide as the terminal. Pipes and files get whole lines, for programs."""

import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Final, Protocol

_DEEPER: Final = "    "
_PREFIX: Final = "Error: "  # click puts it before an error


class Stream(Protocol):
    """What a line is written to."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        ...


def fitted(line: str, stream: Stream) -> Iterator[str]:
    """Yield `line` for `stream`: a terminal gets it broken at spaces, what follows indented below its beginning.

    A word that is longer than the terminal is left whole, so that a path or a command can be copied.
    """
    if not stream.isatty() or len(line) <= (columns := shutil.get_terminal_size().columns):
        yield line
        return
    indent = line[: len(line) - len(line.lstrip(" "))]
    yield from textwrap.wrap(
        line,
        columns,
        subsequent_indent=indent + _DEEPER,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def fitted_error(text: str) -> str:
    """Return the lines of an error, broken for standard error; click puts `Error: ` before the first one."""
    first, *rest = text.split("\n")
    head = "\n".join(fitted(f"{_PREFIX}{first}", sys.stderr)).removeprefix(_PREFIX)
    return "\n".join([head, *(piece for line in rest for piece in fitted(line, sys.stderr))])
