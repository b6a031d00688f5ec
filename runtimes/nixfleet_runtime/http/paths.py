"""The paths of the HTTP API, in one module for both sides. Source: docs/spec/wire.md, Calls."""

from typing import Final
from urllib.parse import quote

AGENT_EVENTS: Final = "/v1/agent/events"
AGENT_EVENT_BATCHES: Final = "/v1/agent/event-batches"
AGENT_DISPATCH: Final = "/v1/agent/dispatch"
AGENT_HEARTBEAT: Final = "/v1/agent/heartbeat"
ENROLL: Final = "/v1/enroll"
OVERVIEW: Final = "/v1/overview"
ROLLOUTS: Final = "/v1/rollouts"
HOSTS: Final = "/v1/hosts"
DEFERRALS: Final = "/v1/deferrals"
LOG: Final = "/v1/log"
PAST: Final = "/v1/past"
LOG_CHAIN: Final = "/v1/log/chain"
FORECAST: Final = "/v1/forecast"
PREVIEW: Final = "/v1/preview"
PLAN: Final = "/v1/plan"
RELEASES: Final = "/v1/releases"
REFUSED_ENROLLMENTS: Final = "/v1/refused-enrollments"
QUARANTINES: Final = "/v1/quarantines"
REFUSED: Final = "/v1/refused"
ENROLLMENTS: Final = "/v1/enrollments"
SILENT: Final = "/v1/silent-hosts"
CHANNELS: Final = "/v1/channels"
HOLDS: Final = "/v1/holds"
WARRANTS: Final = "/v1/warrants"
SHARDS: Final = "/v1/shards"
RELEASED_HOLDS: Final = "/v1/holds/release"
OPENAPI: Final = "/openapi.json"


def rollout_path(rollout_id: str, then: str = "") -> str:
    """Return the path of a rollout, with the suffix `then` (`/signature`, `/events`, `/pause` …)."""
    return f"{ROLLOUTS}/{quote(rollout_id, safe='@')}{then}"


def channel_path(channel: str, then: str) -> str:
    """Return the path of a channel, with the suffix `then` (`/pause`, `/resume`, `/quarantines/retire`)."""
    return f"{CHANNELS}/{quote(channel, safe='')}{then}"


def host_path(hostname: str, then: str) -> str:
    """Return the path of a host, with the suffix `then` (`/explain`)."""
    return f"{HOSTS}/{quote(hostname, safe='')}{then}"
