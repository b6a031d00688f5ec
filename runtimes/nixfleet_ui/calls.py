"""Which calls of the control plane the page may make. Anything else ends in this process. Pure.

The operator's key can sign every request. A page needs these, and a fault in it must not reach another.
Source: docs/spec/local-page.md, What is forwarded.
"""

import re
from enum import Enum, auto
from typing import Final

_SEGMENT: Final = r"[A-Za-z0-9._~@:%!$&'()*+,;=-]+"
"""A name in a path, percent-encoded. `.` and `..` are looked for separately."""

READS: Final = (
    "/v1/overview",
    "/v1/rollouts",
    "/v1/rollouts/{}/manifest",
    "/v1/rollouts/{}/events",
    "/v1/rollouts/{}/hosts",
    "/v1/rollouts/{}/changes",
    "/v1/rollouts/{}/backtest",
    "/v1/hosts",
    "/v1/hosts/{}",
    "/v1/hosts/{}/explain",
    "/v1/deferrals",
    "/v1/log",
    "/v1/log/chain",
    "/v1/past",
    "/v1/forecast",
    "/v1/quarantines",
    "/v1/refused",
    "/v1/enrollments",
    "/v1/silent-hosts",
    "/v1/releases",
    "/v1/holds",
    "/v1/warrants",
)
PREVIEWS: Final = ("/v1/preview",)
COMMANDS: Final = (
    *(f"/v1/rollouts/{{}}/{it}" for it in ("pause", "resume", "clear", "excuse", "skip")),
    *(f"/v1/rollouts/{{}}/{it}" for it in ("retry", "abort")),
    *("/v1/channels/{}/pause", "/v1/channels/{}/resume", "/v1/channels/{}/quarantines/retire"),
    *("/v1/hosts/{}/pause", "/v1/hosts/{}/resume"),
    *("/v1/holds", "/v1/holds/release"),
)


class CallKind(Enum):
    """What a call does: READ changes nothing, COMMAND changes the fleet."""

    READ = auto()
    COMMAND = auto()


def kind_of(method: str, path: str) -> CallKind | None:
    """Return what a call does, `None` if the page may not make it. path: percent-encoded, without its query."""
    if any(part in (".", "..") for part in _dots_decoded(path).split("/")):
        return None
    if method == "GET":
        return CallKind.READ if _READ.fullmatch(path) else None
    if method == "POST" and _PREVIEW.fullmatch(path):
        return CallKind.READ
    return CallKind.COMMAND if method == "POST" and _COMMAND.fullmatch(path) else None


def _dots_decoded(path: str) -> str:
    return re.sub("%2e", ".", path, flags=re.IGNORECASE)


def _one_of(templates: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(it).replace(r"\{\}", _SEGMENT) for it in templates))


_READ, _PREVIEW, _COMMAND = map(_one_of, (READS, PREVIEWS, COMMANDS))
