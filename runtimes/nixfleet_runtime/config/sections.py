"""What both sides say in the same words: whom to trust, how loud to be, and who may go without TLS."""

from ipaddress import ip_address
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import readable_file
from nixfleet_runtime.documents.problems import quoted
from nixfleet_state_machine.host.effect import LogLevel

FRESHNESS_WINDOW_MINUTES: Final = 180


@frozen
class TrustConfig:
    """`[trust]`. file: whose signatures are believed. freshness_window_minutes: how old what they signed may be."""

    file: Path
    freshness_window_minutes: int = FRESHNESS_WINDOW_MINUTES


@frozen
class LogConfig:
    """`[log]`. level: what is less than this is not logged."""

    level: LogLevel = LogLevel.INFO


def read_trust(section: Section) -> TrustConfig:
    """Return what `[trust]` says."""
    return TrustConfig(
        file=section.path("file", readable_file),
        freshness_window_minutes=section.count(
            "freshness_window_minutes", FRESHNESS_WINDOW_MINUTES
        ),
    )


def read_log(section: Section) -> LogConfig:
    """Return what `[log]` says."""
    return LogConfig(level=section.choice("level", LogLevel.INFO))


def read_plain_http(section: Section, key: str, host: str | None, tls_with: str) -> bool:
    """Return whether plain HTTP may leave this machine, and refuse it if it does and may not.

    host: where it would be spoken, `None` when it is not. key: what names the host. tls_with: how to have TLS.
    """
    is_permitted = section.flag("plain_http_beyond_loopback")
    if host is not None and not is_loopback(host) and not is_permitted:
        expected = f"a loopback address, {tls_with}, or plain_http_beyond_loopback = true"
        section.refuse(key, "plain HTTP beyond loopback", expected, quoted(host))
    return is_permitted


def is_loopback(host: str) -> bool:
    """Return whether nothing that is sent to `host` leaves this machine. Names are not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
