"""Which extra brings which library, and the one line that names a missing one. Imports no library itself."""

import sys
from collections.abc import Mapping
from typing import Final, NoReturn

EXTRA_OF: Final[Mapping[str, str]] = {
    "click": "cli",
    "rich": "cli",
    "aiosqlite": "runtime",
    "anyio": "runtime",
    "cattrs": "runtime",
    "nacl": "runtime",
    "orjson": "runtime",
    "rfc8785": "runtime",
    "tzdata": "runtime",
    "http_message_signatures": "http",
    "httptools": "http",
    "httpx2": "http",
    "prometheus_client": "http",
    "starlette": "http",
    "uvicorn": "http",
    "uvloop": "http",
    "asyncpg": "postgres",
    "nats": "nats",
    "hypothesis": "testing",
    "pytest": "testing",
}
"""Top-level modules of the libraries that extras bring, each with the extra that brings it."""

EXIT_CODE: Final = 2


def missing_extra(error: ModuleNotFoundError, command: str) -> str | None:
    """Return what to say to who ran `command`, `None` if no extra brings the module that was not found."""
    extra = EXTRA_OF.get((error.name or "").partition(".")[0])
    if extra is None:
        return None
    return f"{command} needs the extra \"{extra}\": pip install 'nixfleet[{extra}]'"


def exit_without(error: ModuleNotFoundError, command: str) -> NoReturn:
    """End the process with the line that names the missing extra, or raise `error` when none brings the module."""
    line = missing_extra(error, command)
    if line is None:
        raise error
    sys.stderr.write(f"Error: {line}\n")
    sys.exit(EXIT_CODE)
