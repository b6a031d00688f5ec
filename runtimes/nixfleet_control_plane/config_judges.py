"""`[judges.NAME]` of the control plane's configuration: where the judges of checks are.

What they are asked is in the manifest; where they are is not, since it differs by site, and a token is a secret.
Other kinds than the two that come with nixfleet are entry points of the group `nixfleet.judges`.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from nixfleet_control_plane.judges.judge import Judge
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.guards import NAME_EXPECTED, is_name
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import private_file, readable_file
from nixfleet_runtime.config.plugins import JUDGES, PluginUnfit, read_plugin, refuse_plugin
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


def read_judges(root: Section) -> Mapping[str, JudgeConfig | Judge]:
    """Return the judges by name: the settings of those that come with nixfleet, and those of plug-ins themselves."""
    found: dict[str, JudgeConfig | Judge] = {}
    for name, section in root.sections("judges").items():
        if not is_name(name):
            root.section("judges").refuse(name, "not a name", NAME_EXPECTED, quoted(name))
        made = read_plugin(section, JUDGES, _OWN)
        if made is None:
            continue
        plugin, judge = made
        try:
            if not isinstance(judge, JudgeConfig):
                plugin.require(judge, Judge)
        except PluginUnfit as error:
            refuse_plugin(section, error)
        found[name] = judge
    return FrozenMap(found)


def _judge(kind: JudgeKind, section: Section) -> JudgeConfig | Judge:
    url = section.text("url")
    if url and not _is_url(url):
        section.refuse(
            "url", "not a URL", "http:// or https://, without a user or a query", quoted(url)
        )
    return JudgeConfig(
        kind,
        url,
        section.optional_path("token_file", private_file),
        section.optional_path("ca_certificate_file", readable_file),
        section.seconds("timeout_seconds", TIMEOUT_SECONDS, at_most=TIMEOUT_SECONDS_MAX),
    )


_OWN: Final[Mapping[str, Callable[[Section], JudgeConfig | Judge]]] = {
    str(kind): partial(_judge, kind) for kind in JudgeKind
}


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and is_port
    return is_web and parts.username is None and not parts.query and not parts.fragment
