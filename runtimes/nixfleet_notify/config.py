"""A notifier's configuration: the options of its TOML file and their defaults.

Frozen data, and the functions that read it; nothing is opened or started.
`docs/reference/configuration.md` documents every option, and a test checks that it does.
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from attrs import fields_dict, frozen

from nixfleet_notify.config_hooks import Hooks, read_hooks
from nixfleet_notify.config_secrets import read_secret
from nixfleet_notify.ways.egress import EgressRules
from nixfleet_notify.ways.secret import Secret
from nixfleet_runtime.config.base_url import base_urls, is_base_url
from nixfleet_runtime.config.check import Side
from nixfleet_runtime.config.options import Section, load
from nixfleet_runtime.config.path_checks import (
    directory_to_fill,
    file_to_write,
    readable_file,
)
from nixfleet_runtime.config.sections import LogConfig, is_loopback, read_log, read_plain_http
from nixfleet_runtime.documents.problems import quoted

SILENT_AFTER_SECONDS: Final = 300.0
POLL_SECONDS: Final = 60.0
POLL_SECONDS_MAX: Final = 3600.0
DECIDED_AFTER_SECONDS: Final = 86_400.0
_EXPECTED_URL: Final = "https://HOST:PORT with nothing after it"


@frozen
class SourceConfig:
    """`[control_plane]`: whose log is read, by which operator. url: or those of several, separated by commas.

    source: what events name as their source.
    """

    url: str
    operator: str
    key: Secret
    source: str
    ca_certificate_file: Path | None = None
    silent_after_seconds: float = SILENT_AFTER_SECONDS

    @property
    def silent_after(self) -> timedelta:
        """After how long without an answer hooks are told."""
        return timedelta(seconds=self.silent_after_seconds)


@frozen
class FilesConfig:
    """`[files]`. directory: what the notifier keeps."""

    directory: Path


@frozen
class MetricsConfig:
    """`[metrics]`. textfile: written for the textfile collector of Prometheus' node exporter."""

    textfile: Path | None = None


@frozen
class NeedsConfig:
    """`[needs]`. poll_seconds: how often the overview is read. decided_after_seconds: how old what an operator has
    decided, a hold or an abort, must be to be told as a need."""

    poll_seconds: float = POLL_SECONDS
    decided_after_seconds: float = DECIDED_AFTER_SECONDS

    @property
    def decided_after(self) -> timedelta:
        """How old a hold or an abort must be to be told."""
        return timedelta(seconds=self.decided_after_seconds)


@frozen
class NotifyConfig:
    """The complete configuration of a notifier."""

    control_plane: SourceConfig
    files: FilesConfig
    egress: EgressRules
    hooks: Hooks
    needs: NeedsConfig
    metrics: MetricsConfig
    log: LogConfig


def load_notify_config(path: Path, environ: Mapping[str, str]) -> NotifyConfig:
    """Return the configuration in the file at `path`, with the environment's overrides.

    Raises: ConfigError, with every problem.
    """
    return load(path, environ, read_notify_config).config


def read_notify_config(root: Section) -> NotifyConfig:
    """Return the configuration in the root section."""
    egress_section = root.section("egress")
    egress = EgressRules(
        egress_section.texts("hosts") or (), egress_section.texts("private_hosts") or ()
    )
    return NotifyConfig(
        control_plane=_source(root.section("control_plane")),
        files=FilesConfig(root.section("files").path("directory", directory_to_fill)),
        egress=egress,
        hooks=read_hooks(root, egress),
        needs=_needs(root.section("needs")),
        metrics=MetricsConfig(root.section("metrics").optional_path("textfile", file_to_write)),
        log=read_log(root.section("log")),
    )


def _source(section: Section) -> SourceConfig:
    text = section.text("url")
    urls = base_urls(text)
    if text and not urls:
        section.refuse("url", "not a URL", _EXPECTED_URL, quoted(text))
    hosts = [(url, _host_of(section, url)) for url in urls]
    plain = [host for url, host in hosts if url.startswith("http://") and host]
    beyond = [host for host in plain if not is_loopback(host)]
    read_plain_http(section, "url", next(iter((*beyond, *plain)), None), "https://")
    return SourceConfig(
        url=",".join(urls),
        operator=section.text("operator"),
        key=_key(section),
        source=section.text("source", (text if len(urls) == 1 else urls[0]) if urls else "unknown"),
        ca_certificate_file=section.optional_path("ca_certificate_file", readable_file),
        silent_after_seconds=section.seconds("silent_after_seconds", SILENT_AFTER_SECONDS),
    )


def _needs(section: Section) -> NeedsConfig:
    return NeedsConfig(
        section.seconds("poll_seconds", POLL_SECONDS, at_most=POLL_SECONDS_MAX),
        section.seconds("decided_after_seconds", DECIDED_AFTER_SECONDS),
    )


def _key(section: Section) -> Secret:
    found = read_secret(section, "key")
    if found is None and not section.has("key_credential"):
        section.require("key_file", "the operator's key, or key_credential")
    # A configuration with a problem is not used.
    return found or Secret(Path())


def _host_of(section: Section, url: str) -> str | None:
    if not is_base_url(url):
        section.refuse("url", "not a URL", _EXPECTED_URL, quoted(url))
        return None
    return urlsplit(url).hostname


NOTIFY: Final = Side("notifier", frozenset(fields_dict(NotifyConfig)), read_notify_config)
"""For `check_config`."""
