"""`[judges.NAME]` of the control plane's configuration: where the judges of checks are.

What they are asked is in the manifest; where they are is not, since it differs by site, and a token is a secret.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.guards import NAME_EXPECTED, is_name
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import private_file, readable_file
from nixfleet_runtime.documents.problems import quoted

TIMEOUT_SECONDS: Final = 10.0
TIMEOUT_SECONDS_MAX: Final = 60.0


class JudgeKind(StrEnum):
    """What a judge is."""

    PROMETHEUS = "prometheus"
    HTTP = "http"


@frozen
class JudgeConfig:
    """`[judges.NAME]`. token_file: sent as a bearer token; read at each question."""

    kind: JudgeKind
    url: str
    token_file: Path | None = None
    ca_certificate_file: Path | None = None
    timeout_seconds: float = TIMEOUT_SECONDS


def read_judges(root: Section) -> Mapping[str, JudgeConfig]:
    """Return the judges by name."""
    found: dict[str, JudgeConfig] = {}
    for name, section in root.sections("judges").items():
        if not is_name(name):
            root.section("judges").refuse(name, "not a name", NAME_EXPECTED, quoted(name))
        kind = section.required_choice("kind", JudgeKind)
        url = section.text("url")
        if url and not _is_url(url):
            section.refuse(
                "url", "not a URL", "http:// or https://, without a user or a query", quoted(url)
            )
        found[name] = JudgeConfig(
            kind or JudgeKind.HTTP,
            url,
            section.optional_path("token_file", private_file),
            section.optional_path("ca_certificate_file", readable_file),
            section.seconds("timeout_seconds", TIMEOUT_SECONDS, at_most=TIMEOUT_SECONDS_MAX),
        )
    return FrozenMap(found)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and is_port
    return is_web and parts.username is None and not parts.query and not parts.fragment
