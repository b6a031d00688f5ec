"""How the processes log: one JSON object a line, on standard error. A service manager adds what it knows itself.

A line has `time`, `level`, `logger` and `message`, and `error` with the traceback when there is one. Nothing secret
is ever given to a logger, so nothing has to be taken out here.
"""

import logging
from datetime import UTC, datetime

import orjson

from nixfleet_state_machine.host.effect import LogLevel


def log_to_stderr(level: LogLevel) -> None:
    """Log from `level` on, in UTC as everything else here is told."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
    # Each request, with its path, at INFO: the workers say what came of it.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """Makes a record one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, option=orjson.OPT_UTC_Z).decode()
