"""What a process says of itself: one JSON object a line, on standard error. For processes alone; libraries only log.

A line has `time`, `level`, `logger` and `message`, and `error` with the traceback when there is one. Nothing secret
is ever given to a logger, so nothing has to be taken out here.
"""

import logging
import sys
from datetime import UTC, datetime

import orjson

from nixfleet_state_machine.effect import LogLevel


def log_to_stderr(level: LogLevel) -> None:
    """Let everything from `level` on be a line on standard error, from now until the process ends."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(
        level=logging.getLevelNamesMapping()[level.value.upper()], handlers=[handler], force=True
    )


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
