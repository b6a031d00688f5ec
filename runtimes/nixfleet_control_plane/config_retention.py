"""`[retention]` of the control plane's configuration: where old rows of the log go, which, and when."""

from datetime import time
from pathlib import Path
from typing import Final

from nixfleet_control_plane.history.retention.worker import RetentionConfig
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import PathProblem

KEEP_DAYS: Final = 90
AT: Final = "03:00"
_DAYS_MAX: Final = 36_500


def read_retention(section: Section) -> RetentionConfig | None:
    """Return `[retention]`; `None`: no directory is named, so every row is kept."""
    directory = section.optional_path("directory", _any_path)
    keep_days = section.count("keep_days", KEEP_DAYS, at_most=_DAYS_MAX)
    at = _time_of_day(section)
    if directory is None:
        for key in ("keep_days", "at"):
            if section.has(key):
                section.require("directory", "a path: without it no row is exported")
        return None
    return RetentionConfig(directory, keep_days, at)


def _any_path(path: Path) -> PathProblem | None:
    """Accept every path: a control plane starts, and says what fails, also while an archive is not mounted."""
    return None


def _time_of_day(section: Section) -> time:
    text = section.text("at", AT)
    hours, _, minutes = text.partition(":")
    try:
        if len(text) != len(AT) or not (text.isascii() and (hours + minutes).isdigit()):
            raise ValueError
        return time(int(hours), int(minutes))
    except ValueError:
        section.refuse(
            "at", "no time of day", "hours and minutes in UTC, such as 03:00", repr(text)
        )
        return time()
