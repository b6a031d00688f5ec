"""How the processes log: one JSON object a line, on standard error. A service manager adds what it knows itself.

A line has `time`, `level`, `logger` and `message`, and `error` with the traceback when there is one. It is ASCII:
whatever a host or a peer said, no control character reaches a terminal raw and no text forges a line. A long message
loses its middle. Nothing secret is ever given to a logger, so nothing has to be taken out here.
"""

import logging
from datetime import UTC, datetime
from typing import Final

from nixfleet_cli.shared.output import json_text
from nixfleet_runtime.kernel.visible import shortened
from nixfleet_state_machine.host.effect import LogLevel

MESSAGE_LENGTH_MAX: Final = 4_000
"""What a peer says may be in a message, and no peer fills a disk with it. A journal of systemd keeps 48 KiB a line."""


def log_to_stderr(level: LogLevel) -> None:
    """Log from `level` on, with times in UTC."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
    # Each request, with its path, at INFO: the workers log its result.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shortened(record.getMessage(), MESSAGE_LENGTH_MAX),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json_text(line)
