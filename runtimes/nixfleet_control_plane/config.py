"""The control plane's configuration: the options of its TOML file and their defaults.

Frozen data, and the functions that read it; nothing is opened or started.
`docs/reference/configuration.md` documents every option, and a test checks that it does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import evolve, fields_dict, frozen

from nixfleet_control_plane.config_judges import JudgeConfig, read_judges
from nixfleet_control_plane.config_retention import read_retention
from nixfleet_control_plane.config_shards import ShardConfig, read_shards
from nixfleet_control_plane.config_store import StoreConfig, read_store
from nixfleet_control_plane.config_transports import TransportConfig, read_transports
from nixfleet_control_plane.history.retention.worker import RetentionConfig
from nixfleet_control_plane.judges.judge import Judge
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_runtime.config.base_url import is_base_url
from nixfleet_runtime.config.check import Side
from nixfleet_runtime.config.options import Section, load
from nixfleet_runtime.config.path_checks import (
    private_file,
    readable_directory,
    readable_file,
)
from nixfleet_runtime.config.sections import (
    LogConfig,
    TrustConfig,
    read_log,
    read_plain_http,
    read_trust,
)
from nixfleet_runtime.documents.problems import quoted

PORT_MAX: Final = 65535
# About the size of the largest batch of events. With a lower limit a host with a full batch could never send it.
BODY_BYTES_MAX_LEAST: Final = 1024 * 1024
# The headers of a signed request take about a quarter of this.
HEADER_BYTES_MAX_LEAST: Final = 4096
RELEASES_POLL_SECONDS: Final = 10.0
TLS_KEYS: Final = ("tls_certificate_file", "tls_key_file")


@frozen
class TlsConfig:
    """The server's certificate and private key. Both files are PEM."""

    certificate_file: Path
    key_file: Path


@frozen
class ListenConfig:
    """`[listen]`. tls: `None` for plain HTTP. behind_proxy: take the client's address from the proxy's headers.

    url: where hosts and operators reach this control plane, for standbys to name; empty: the address it listens on.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls: TlsConfig | None = None
    plain_http_beyond_loopback: bool = False
    behind_proxy: bool = False
    url: str = ""


@frozen
class ReleasesConfig:
    """`[releases]`. directory: where CI publishes signed artefacts."""

    directory: Path
    poll_seconds: float = RELEASES_POLL_SECONDS


@frozen
class LimitsConfig:
    """`[limits]`: the bounds beyond which requests are refused. Pollers are requests that wait for a dispatch,
    viewers those that wait for the log to grow.

    `queue_length_max` is for the mutator; the others are passed to `http.server.limits.Limits` under the same names.
    """

    body_bytes_max: int = BODY_BYTES_MAX_LEAST
    bodies_bytes_max: int = 64 * 1024 * 1024
    body_seconds_max: float = 10.0
    header_bytes_max: int = 16 * 1024
    pollers_per_host_max: int = 2
    pollers_max: int = 20_000
    queue_length_max: int = 4096
    header_seconds_max: float = 10.0
    answer_seconds_max: float = 30.0
    keep_alive_seconds: int = 30
    connections_max: int = 25_000
    host_requests_per_second_max: int = 20
    host_events_per_second_max: int = 200
    viewers_per_operator_max: int = 8
    viewers_max: int = 500


@frozen
class TicksConfig:
    """`[ticks]`. plan_seconds: how often the engine handles what has become due."""

    plan_seconds: float = 5.0


@frozen
class ForecastConfig:
    """`[forecast]`. disabled: no process is started that computes forecasts, when one is asked for."""

    disabled: bool = False


@frozen
class ControlPlaneConfig:
    """The complete configuration of a control plane."""

    store: StoreConfig
    listen: ListenConfig
    trust: TrustConfig
    releases: ReleasesConfig
    limits: LimitsConfig
    ticks: TicksConfig
    log: LogConfig
    forecast: ForecastConfig = ForecastConfig()
    judges: Mapping[str, JudgeConfig | Judge] = FrozenMap()
    transports: Mapping[str, TransportConfig] = FrozenMap()
    retention: RetentionConfig | None = None
    shards: tuple[ShardConfig, ...] = ()


def load_control_plane_config(path: Path, environ: Mapping[str, str]) -> ControlPlaneConfig:
    """Return the configuration in the file at `path`, with the environment's overrides.

    Raises: ConfigError, with every problem.
    """
    config = load(path, environ, read_control_plane_config).config
    return evolve(config, store=evolve(config.store, config_file=path))


def read_control_plane_config(root: Section) -> ControlPlaneConfig:
    """Return the configuration in the root section."""
    store = read_store(root.section("store"))
    return ControlPlaneConfig(
        store=store,
        listen=_listen(root.section("listen")),
        trust=read_trust(root.section("trust")),
        releases=_releases(root.section("releases")),
        limits=_limits(root.section("limits")),
        ticks=_ticks(root.section("ticks")),
        log=read_log(root.section("log")),
        forecast=ForecastConfig(root.section("forecast").flag("disabled")),
        judges=read_judges(root),
        transports=read_transports(root),
        retention=read_retention(root.section("retention")),
        shards=read_shards(root, store),
    )


def _listen(section: Section) -> ListenConfig:
    default = ListenConfig()
    host = section.text("host", default.host)
    tls = _tls(section)
    return ListenConfig(
        host=host,
        port=section.count("port", default.port, at_least=0, at_most=PORT_MAX),
        tls=tls,
        plain_http_beyond_loopback=read_plain_http(
            section,
            "host",
            None if _names_tls(section) else host,
            "tls_certificate_file and tls_key_file",
        ),
        behind_proxy=section.flag("behind_proxy"),
        url=_own_url(section),
    )


def _own_url(section: Section) -> str:
    url = section.text("url", "").removesuffix("/")
    if url and not is_base_url(url):
        section.refuse(
            "url", "cannot be used", "https://HOST:PORT with nothing after it", quoted(url)
        )
    return url


def _tls(section: Section) -> TlsConfig | None:
    certificate_file = section.optional_path(TLS_KEYS[0], readable_file)
    key_file = section.optional_path(TLS_KEYS[1], private_file)
    if _names_tls(section):
        for key in TLS_KEYS:
            section.require(key, "a path: set both files or neither")
    if certificate_file is None or key_file is None:
        return None
    return TlsConfig(certificate_file, key_file)


def _names_tls(section: Section) -> bool:
    return any(map(section.has, TLS_KEYS))


def _releases(section: Section) -> ReleasesConfig:
    return ReleasesConfig(
        directory=section.path("directory", readable_directory),
        poll_seconds=section.seconds("poll_seconds", RELEASES_POLL_SECONDS),
    )


def _limits(section: Section) -> LimitsConfig:
    default = LimitsConfig()
    pollers_max = section.count("pollers_max", default.pollers_max)
    connections_max = section.count("connections_max", default.connections_max)
    if 0 < connections_max <= pollers_max:
        # Every poll occupies a connection: waiting hosts would lock out all other clients.
        expected = f"less than connections_max, which is {connections_max}"
        section.refuse(
            "pollers_max", "no connections left beside the polls", expected, str(pollers_max)
        )
    body_bytes_max = section.count(
        "body_bytes_max", default.body_bytes_max, at_least=BODY_BYTES_MAX_LEAST
    )
    bodies_bytes_max = section.count("bodies_bytes_max", default.bodies_bytes_max)
    if 0 < bodies_bytes_max < body_bytes_max:
        expected = f"body_bytes_max or more, which is {body_bytes_max}"
        section.refuse(
            "bodies_bytes_max", "room for less than one body", expected, str(bodies_bytes_max)
        )
    return LimitsConfig(
        body_bytes_max=body_bytes_max,
        bodies_bytes_max=bodies_bytes_max,
        body_seconds_max=section.seconds("body_seconds_max", default.body_seconds_max),
        header_bytes_max=section.count(
            "header_bytes_max", default.header_bytes_max, at_least=HEADER_BYTES_MAX_LEAST
        ),
        pollers_per_host_max=section.count("pollers_per_host_max", default.pollers_per_host_max),
        pollers_max=pollers_max,
        queue_length_max=section.count("queue_length_max", default.queue_length_max),
        header_seconds_max=section.seconds("header_seconds_max", default.header_seconds_max),
        answer_seconds_max=section.seconds("answer_seconds_max", default.answer_seconds_max),
        keep_alive_seconds=section.count("keep_alive_seconds", default.keep_alive_seconds),
        connections_max=connections_max,
        host_requests_per_second_max=section.count(
            "host_requests_per_second_max", default.host_requests_per_second_max
        ),
        host_events_per_second_max=section.count(
            "host_events_per_second_max", default.host_events_per_second_max
        ),
        viewers_per_operator_max=section.count(
            "viewers_per_operator_max", default.viewers_per_operator_max
        ),
        viewers_max=section.count("viewers_max", default.viewers_max),
    )


def _ticks(section: Section) -> TicksConfig:
    return TicksConfig(section.seconds("plan_seconds", TicksConfig().plan_seconds))


CONTROL_PLANE: Final = Side(
    "control plane", frozenset(fields_dict(ControlPlaneConfig)), read_control_plane_config
)
"""For `check_config`."""
