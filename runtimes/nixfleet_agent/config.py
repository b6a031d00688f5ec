"""The agent's configuration: the options of its TOML file and their defaults.

Frozen data, and reading it; nothing is opened or started. `docs/reference/configuration.md` has a line for every
option; a test checks that.
"""

import socket
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, assert_never
from urllib.parse import urlsplit

from attrs import fields_dict, frozen

from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_agent.activation.nixos.activator import OnFailedUnits
from nixfleet_agent.config_command import CommandActivatorConfig, command_activator
from nixfleet_agent.config_plugins import PluggedActivator, PluggedJournal, PluggedTransport
from nixfleet_agent.locks.program import TIMEOUT_SECONDS_DEFAULT, LockProgram
from nixfleet_agent.ports import AgentSettings
from nixfleet_runtime.config.base_url import base_urls, is_base_url
from nixfleet_runtime.config.check import Side
from nixfleet_runtime.config.options import Section, load, variable_of
from nixfleet_runtime.config.path_checks import (
    directory_to_fill,
    file_to_write,
    link_to_replace,
    private_file_if_there,
    private_file_to_make,
    readable_directory,
    readable_file,
)
from nixfleet_runtime.config.plugins import (
    ACTIVATORS,
    JOURNALS,
    TRANSPORTS,
    Plugin,
    read_plugin,
)
from nixfleet_runtime.config.sections import (
    LogConfig,
    TrustConfig,
    is_loopback,
    read_log,
    read_plain_http,
    read_trust,
    read_write_seconds,
)
from nixfleet_runtime.documents.problems import quoted

OwnT = TypeVar("OwnT")
PluggedT = TypeVar("PluggedT")

POLL_WAIT_SECONDS_MAX: Final = 60.0  # the longest the control plane holds a poll
LINGER_SECONDS_MAX: Final = 1.0  # longer, and people see probes late
LOCK_SECONDS_MAX: Final = 86_400.0
LOCK_TIMEOUT_SECONDS_MAX: Final = 300.0
"""A dispatch takes its slot, and its `ack` deadline runs, while the lock is asked; who needs longer says "not now"."""
ASK_AGAIN_SECONDS_MIN: Final = 60.0
_EXPECTED_URL: Final = "https://HOST:PORT or http://HOST:PORT, without a path"
_DEFAULTS: Final = AgentSettings("")


@frozen
class ControlPlaneAddress:
    """`[control_plane]`. url: or those of several on one store, separated by commas, in order of preference.

    ca_certificate_file: `None` for the system's certificate authorities.
    """

    url: str
    ca_certificate_file: Path | None = None
    plain_http_beyond_loopback: bool = False

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.url


@frozen
class IdentityConfig:
    """`[identity]`. The key is generated on the host; the token is needed until the host is enrolled."""

    key_file: Path
    bootstrap_token_file: Path | None = None


@frozen
class JournalConfig:
    """`[journal]`. path: the SQLite database."""

    path: Path


@frozen
class ManifestsConfig:
    """`[manifests]`. cache_directory: the manifests used while the control plane is unreachable."""

    cache_directory: Path


class ActivatorKind(StrEnum):
    """`[activator] kind`: what a closure is on this host."""

    DIRECTORY = "directory"
    NIXOS = "nixos"
    COMMAND = "command"


@frozen
class DirectoryActivatorConfig:
    """`[activator]` of kind `directory`; the fields are those of `DirectoryActivator`."""

    store: Path
    profile: Path
    switching_from: Path
    switch_timeout_seconds: float


DEAD_MAN_MARGIN_SECONDS = 10.0
"""How much longer than a switch the dead-man timer waits at least."""


NIXOS_GRACE_SECONDS = 2.0
"""How long a stopping agent on NixOS waits. A switch does not end with its agent, and may itself wait for the agent to
stop; but an agent that a failed switch restarts again and again needs a moment to end that switch."""


@frozen
class NixosActivatorConfig:
    """`[activator]` of kind `nixos`; the fields are those of `NixosActivator`."""

    store: Path = Path("/nix/store")
    profile: Path = Path("/nix/var/nix/profiles/system")
    current_system: Path = Path("/run/current-system")
    switch_timeout_seconds: float = 600.0
    poll_interval_seconds: float = 2.0
    realise_timeout_seconds: float = 3600.0
    command_timeout_seconds: float = 120.0
    attempt_file: Path = Path("/var/lib/nixfleet-agent/switch.json")
    roots: Path = Path("/nix/var/nix/gcroots/nixfleet")
    agent_unit: str = "nixfleet-agent.service"
    on_failed_units: OnFailedUnits = OnFailedUnits.REPORT
    dead_man_seconds: float = 1200.0


ActivatorConfig: TypeAlias = (
    DirectoryActivatorConfig | NixosActivatorConfig | CommandActivatorConfig | PluggedActivator
)


@frozen
class ProbesConfig:
    """`[probes]`: the shortest interval, and how long a probe may fail before its host is Failed."""

    interval_seconds_min: float = _DEFAULTS.probe_interval_seconds_min
    failure_threshold_seconds: float = _DEFAULTS.failure_threshold_seconds


@frozen
class LockConfig:
    """`[lock]`: the program that says whether a switch may begin; `None`: nothing is asked."""

    may_activate: tuple[str, ...] | None = None
    timeout_seconds: float = TIMEOUT_SECONDS_DEFAULT
    ask_again_seconds: float = _DEFAULTS.ask_again_seconds

    @property
    def program(self) -> LockProgram | None:
        """The lock of this host."""
        if self.may_activate is None:
            return None
        return LockProgram(self.may_activate, self.timeout_seconds)


@frozen
class TicksConfig:
    """`[ticks]`: the intervals of ticks, heartbeats and polls, how long facts wait for others, and writes take."""

    heartbeat_seconds: float = _DEFAULTS.heartbeat_seconds
    linger_seconds: float = _DEFAULTS.linger_seconds
    poll_wait_seconds: float = _DEFAULTS.poll_wait_seconds
    tick_seconds: float = _DEFAULTS.tick_seconds
    write_seconds_max: float = _DEFAULTS.write_seconds_max


@frozen
class AgentConfig:
    """The whole configuration of an agent."""

    hostname: str
    control_plane: ControlPlaneAddress | PluggedTransport
    trust: TrustConfig
    identity: IdentityConfig
    journal: JournalConfig | PluggedJournal
    manifests: ManifestsConfig
    activator: ActivatorConfig
    probes: ProbesConfig
    ticks: TicksConfig
    log: LogConfig
    lock: LockConfig = LockConfig()

    @property
    def settings(self) -> AgentSettings:
        """The settings for `AgentService`."""
        return AgentSettings(
            hostname=self.hostname,
            failure_threshold_seconds=self.probes.failure_threshold_seconds,
            freshness_window_minutes=self.trust.freshness_window_minutes,
            tick_seconds=self.ticks.tick_seconds,
            linger_seconds=self.ticks.linger_seconds,
            heartbeat_seconds=self.ticks.heartbeat_seconds,
            poll_wait_seconds=self.ticks.poll_wait_seconds,
            probe_interval_seconds_min=self.probes.interval_seconds_min,
            switch_grace_seconds=self._switch_grace_seconds,
            ask_again_seconds=self.lock.ask_again_seconds,
            write_seconds_max=self.ticks.write_seconds_max,
        )

    @property
    def _switch_grace_seconds(self) -> float:
        match self.activator:
            case DirectoryActivatorConfig() | PluggedActivator():
                return _DEFAULTS.switch_grace_seconds
            case NixosActivatorConfig():
                return NIXOS_GRACE_SECONDS
            case CommandActivatorConfig():
                within = self.activator.within_agent
                return _DEFAULTS.switch_grace_seconds if within else NIXOS_GRACE_SECONDS
            case _:
                assert_never(self.activator)


def load_agent_config(path: Path, environ: Mapping[str, str]) -> AgentConfig:
    """Return the configuration in the file at `path`, with the environment's overrides.

    Raises: ConfigError, with every problem.
    """
    return load(path, environ, read_agent_config).config


def load_journal_config(
    path: Path, environ: Mapping[str, str]
) -> JournalConfig | PluggedJournal | None:
    """Return `[journal]` of the configuration in the file at `path`, with the environment's overrides.

    The other sections are not read, so their files need not be there. Raises: ConfigError, with every problem.
    """

    def read(root: Section) -> JournalConfig | PluggedJournal | None:
        root.accept_unknown_keys()
        return _part(root.section("journal"), JOURNALS, _JOURNALS, PluggedJournal, "sqlite")

    prefix = f"{variable_of('journal')}__"
    own = {name: text for name, text in environ.items() if name.startswith(prefix)}
    return load(path, own, read).config


def read_agent_config(root: Section) -> AgentConfig:
    """Return the configuration in the root section."""
    journal = _part(root.section("journal"), JOURNALS, _JOURNALS, PluggedJournal, "sqlite")
    control_plane = _part(
        root.section("control_plane"), TRANSPORTS, _TRANSPORTS, PluggedTransport, "http"
    )
    return AgentConfig(
        hostname=root.text("hostname", socket.gethostname()),
        control_plane=control_plane or ControlPlaneAddress(""),
        trust=read_trust(root.section("trust")),
        identity=_identity(root.section("identity")),
        journal=journal or JournalConfig(Path()),
        manifests=ManifestsConfig(
            root.section("manifests").path("cache_directory", directory_to_fill)
        ),
        activator=_activator(root.section("activator"), journal),
        probes=_probes(root.section("probes")),
        ticks=_ticks(root.section("ticks")),
        log=read_log(root.section("log")),
        lock=_lock(root.section("lock")),
    )


def _part(
    section: Section,
    group: str,
    own: Mapping[str, Callable[[Section], OwnT]],
    plugged: Callable[[Plugin, Any], PluggedT],
    default: str = "",
) -> OwnT | PluggedT | None:
    """Return what `section` configures: a part of nixfleet, or a plug-in; `None`: the problem is reported."""
    found = read_plugin(section, group, own, default)
    if found is None:
        return None
    plugin, made = found
    return made if plugin.name in own else plugged(plugin, made)


def _control_plane(section: Section) -> ControlPlaneAddress:
    text = section.text("url")
    urls = base_urls(text)
    if text and not urls:
        section.refuse("url", "cannot be used", _EXPECTED_URL, quoted(text))
    ca_certificate_file = section.optional_path("ca_certificate_file", readable_file)
    plain_http_hosts = [host for url in urls if (host := _plain_http_host(section, url))]
    if plain_http_hosts and section.has("ca_certificate_file"):
        section.refuse("ca_certificate_file", "has no effect", "an https:// url", quoted(text))
    beyond = [host for host in plain_http_hosts if not is_loopback(host)]
    return ControlPlaneAddress(
        url=",".join(urls),
        ca_certificate_file=ca_certificate_file,
        plain_http_beyond_loopback=read_plain_http(
            section, "url", next(iter((*beyond, *plain_http_hosts)), None), "https://"
        ),
    )


def _plain_http_host(section: Section, url: str) -> str | None:
    """Return the host of an http:// URL, `None` for any other; report a URL that cannot be used."""
    if "@" in url:
        expected = "a URL without user name and password: requests are signed"
        section.refuse("url", "has credentials", expected, "some, not shown here")
        return None
    if not is_base_url(url):
        section.refuse("url", "cannot be used", _EXPECTED_URL, quoted(url))
        return None
    parts = urlsplit(url)
    return parts.hostname if parts.scheme == "http" else None


def _identity(section: Section) -> IdentityConfig:
    # Neither file need exist: the key may not be generated yet, and the token is removed after use.
    return IdentityConfig(
        key_file=section.path("key_file", private_file_to_make),
        bootstrap_token_file=section.optional_path("bootstrap_token_file", private_file_if_there),
    )


def _activator(section: Section, journal: JournalConfig | PluggedJournal | None) -> ActivatorConfig:
    beside = journal.path if isinstance(journal, JournalConfig) else None
    own: dict[str, Callable[[Section], ActivatorConfig]] = {
        ActivatorKind.DIRECTORY: _directory_activator,
        ActivatorKind.NIXOS: partial(_nixos_activator, beside),
        ActivatorKind.COMMAND: partial(command_activator, beside),
    }
    return _part(section, ACTIVATORS, own, PluggedActivator) or NixosActivatorConfig()


def _journal(section: Section) -> JournalConfig:
    return JournalConfig(section.path("path", file_to_write))


_JOURNALS: Final[Mapping[str, Callable[[Section], JournalConfig]]] = {"sqlite": _journal}
_TRANSPORTS: Final[Mapping[str, Callable[[Section], ControlPlaneAddress]]] = {
    "http": _control_plane
}


def _directory_activator(section: Section) -> DirectoryActivatorConfig:
    default = DirectoryActivator(
        store=section.path("store", readable_directory),
        profile=section.path("profile", link_to_replace),
    )
    return DirectoryActivatorConfig(
        store=default.store,
        profile=default.profile,
        switching_from=section.optional_path("switching_from", link_to_replace)
        or default.switching_from,
        switch_timeout_seconds=section.seconds(
            "switch_timeout_seconds", default.switch_timeout_seconds
        ),
    )


def _nixos_activator(journal: Path | None, section: Section) -> NixosActivatorConfig:
    default = NixosActivatorConfig()
    activator = NixosActivatorConfig(
        store=section.path("store", readable_directory, default.store),
        profile=section.path("profile", link_to_replace, default.profile),
        current_system=section.path("current_system", readable_directory, default.current_system),
        switch_timeout_seconds=section.seconds(
            "switch_timeout_seconds", default.switch_timeout_seconds
        ),
        poll_interval_seconds=section.seconds(
            "poll_interval_seconds", default.poll_interval_seconds
        ),
        realise_timeout_seconds=section.seconds(
            "realise_timeout_seconds", default.realise_timeout_seconds
        ),
        command_timeout_seconds=section.seconds(
            "command_timeout_seconds", default.command_timeout_seconds
        ),
        attempt_file=section.optional_path("attempt_file", file_to_write)
        or (
            default.attempt_file
            if journal is None
            else journal.with_name(default.attempt_file.name)
        ),
        roots=section.optional_path("roots", directory_to_fill) or default.roots,
        agent_unit=section.text("agent_unit", default.agent_unit),
        on_failed_units=section.choice("on_failed_units", default.on_failed_units),
        dead_man_seconds=section.seconds_or_none("dead_man_seconds", default.dead_man_seconds),
    )
    least = activator.switch_timeout_seconds + DEAD_MAN_MARGIN_SECONDS
    if 0 < activator.dead_man_seconds < least:
        expected = f"0, for none, or at least {least:g}: {DEAD_MAN_MARGIN_SECONDS:g} more than a switch may take"
        found = f"{activator.dead_man_seconds:g}"
        section.refuse("dead_man_seconds", "too short", expected, found)
    return activator


def _probes(section: Section) -> ProbesConfig:
    default = ProbesConfig()
    return ProbesConfig(
        interval_seconds_min=section.seconds("interval_seconds_min", default.interval_seconds_min),
        failure_threshold_seconds=section.seconds(
            "failure_threshold_seconds", default.failure_threshold_seconds
        ),
    )


def _lock(section: Section) -> LockConfig:
    default = LockConfig()
    may_activate = section.texts("may_activate")
    program = may_activate[0] if may_activate else ""
    if "/" in program and not program.startswith("/"):
        expected = "an absolute path, or the name of a program in PATH, and its arguments"
        section.refuse("may_activate", "is a relative path", expected, quoted(program))
    lock = LockConfig(
        may_activate,
        section.seconds(
            "timeout_seconds", default.timeout_seconds, at_most=LOCK_TIMEOUT_SECONDS_MAX
        ),
        section.seconds("ask_again_seconds", default.ask_again_seconds, at_most=LOCK_SECONDS_MAX),
    )
    for key in ("timeout_seconds", "ask_again_seconds"):
        if may_activate is None and section.has(key):
            section.refuse(
                key, "has no effect", "it with may_activate, which says what is asked", "none"
            )
    if lock.ask_again_seconds < ASK_AGAIN_SECONDS_MIN:
        expected = f"at least {ASK_AGAIN_SECONDS_MIN:g}: each answer is a row in the log"
        section.refuse("ask_again_seconds", "too short", expected, f"{lock.ask_again_seconds:g}")
    return lock


def _ticks(section: Section) -> TicksConfig:
    default = TicksConfig()
    return TicksConfig(
        heartbeat_seconds=section.seconds("heartbeat_seconds", default.heartbeat_seconds),
        poll_wait_seconds=section.seconds(
            "poll_wait_seconds", default.poll_wait_seconds, at_most=POLL_WAIT_SECONDS_MAX
        ),
        linger_seconds=section.seconds_or_none(
            "linger_seconds", default.linger_seconds, at_most=LINGER_SECONDS_MAX
        ),
        tick_seconds=section.seconds("tick_seconds", default.tick_seconds),
        write_seconds_max=read_write_seconds(section),
    )


AGENT: Final = Side("agent", frozenset(fields_dict(AgentConfig)), read_agent_config)
"""For `check_config`."""
