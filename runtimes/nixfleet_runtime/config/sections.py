"""Configuration sections that both sides share: trust, log level, and permission for plain HTTP."""

from ipaddress import ip_address
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import readable_file
from nixfleet_runtime.documents.problems import quoted
from nixfleet_runtime.kernel.mutator import WRITE_SECONDS_MAX
from nixfleet_state_machine.host.effect import LogLevel

WRITE_SECONDS_LEAST: Final = 5.0
WRITE_SECONDS_MOST: Final = 600.0


@frozen
class TrustConfig:
    """`[trust]`. file: the trust file. freshness_window_minutes: a limit on the windows that releases declare."""

    file: Path
    freshness_window_minutes: int | None = None


@frozen
class LogConfig:
    """`[log]`. level: the lowest level that is logged."""

    level: LogLevel = LogLevel.INFO


def read_trust(section: Section) -> TrustConfig:
    """Return the `[trust]` section."""
    return TrustConfig(
        file=section.path("file", readable_file),
        freshness_window_minutes=section.optional_count("freshness_window_minutes"),
    )


def read_log(section: Section) -> LogConfig:
    """Return the `[log]` section."""
    return LogConfig(level=section.choice("level", LogLevel.INFO))


def read_plain_http(section: Section, key: str, host: str | None, tls_with: str) -> bool:
    """Return whether plain HTTP beyond loopback is permitted; report a problem if it is used without permission.

    host: the host that speaks plain HTTP, `None` if TLS is used. key: the option that names the host. tls_with: the
    option that enables TLS.
    """
    is_permitted = section.flag("plain_http_beyond_loopback")
    if host is not None and not is_loopback(host) and not is_permitted:
        expected = f"a loopback address, {tls_with}, or plain_http_beyond_loopback = true"
        section.refuse(key, "plain HTTP beyond loopback", expected, quoted(host))
    return is_permitted


def read_write_seconds(section: Section) -> float:
    """Return `write_seconds_max`: how long one write may take before the service ends.

    Less than a few seconds would end it on a disk that is merely busy; more than minutes, and hosts have given up.
    """
    return section.seconds(
        "write_seconds_max",
        WRITE_SECONDS_MAX,
        at_least=WRITE_SECONDS_LEAST,
        at_most=WRITE_SECONDS_MOST,
    )


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address or `localhost`. Other names are not resolved."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
