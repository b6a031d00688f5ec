"""How the processes log: one line an event, on standard error. A service manager adds what it knows itself."""

import logging
import time

from nixfleet_state_machine.effect import LogLevel

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: LogLevel) -> None:
    """Log from `level` on, in UTC as everything else here is told."""
    formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.value.upper(), handlers=[handler])
    # Each request, with its path, at INFO: the workers say what came of it.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
