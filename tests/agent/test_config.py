"""The agent's configuration: a minimal one of each kind, and those that would be a mistake to run."""

import socket
from pathlib import Path

import pytest
from attrs import fields

from nixfleet_agent.activation.command import CommandActivator, Commands
from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_agent.activation.nixos.activator import NixosActivator, OnFailedUnits
from nixfleet_agent.config import (
    NIXOS_GRACE_SECONDS,
    AgentConfig,
    ControlPlaneAddress,
    DirectoryActivatorConfig,
    IdentityConfig,
    JournalConfig,
    ManifestsConfig,
    NixosActivatorConfig,
    ProbesConfig,
    TicksConfig,
    load_agent_config,
)
from nixfleet_agent.main import activator_of
from nixfleet_agent.ports import AgentSettings
from nixfleet_runtime.config.options import ConfigError
from nixfleet_runtime.config.sections import LogConfig, TrustConfig
from nixfleet_runtime.documents.problems import Problem
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_runtime.releases.nar import closure_name_of

URL = "https://fleet.example.org"
DIRECTORY = 'kind = "directory"\nstore = "store"\nprofile = "profile"\n'
SCRIPT = '#!/bin/sh\nenv > "$NIXFLEET_CLOSURE_ROOT/../environment"\n'


def written(url: str = URL, activator: str = DIRECTORY, address: str = "", more: str = "") -> str:
    return f"""
        [control_plane]
        url = "{url}"
        {address}
        [trust]
        file = "trust.json"
        [identity]
        key_file = "host.key"
        [journal]
        path = "journal.db"
        [manifests]
        cache_directory = "manifests"
        [activator]
        {activator}
        {more}
    """


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with everything that a configuration may name."""
    (tmp_path / "trust.json").touch()
    (tmp_path / "authorities.pem").touch()
    (tmp_path / "store").mkdir()
    return tmp_path


def loaded(directory: Path, text: str, environ: dict[str, str] | None = None) -> AgentConfig:
    file = directory / "agent.toml"
    file.write_text(text, encoding="utf-8")
    return load_agent_config(file, environ or {})


def problems(
    directory: Path, text: str, environ: dict[str, str] | None = None
) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text, environ)
    return caught.value.problems


@pytest.mark.parametrize("seconds", ["0", "-1", "4.9", "601", "inf", "nan"])
def test_a_write_deadline_that_ends_a_busy_or_no_agent_is_refused(
    directory: Path, seconds: str
) -> None:
    """Less than any busy disk takes, or longer than anybody waits."""
    (problem,) = problems(directory, written(more=f"[ticks]\nwrite_seconds_max = {seconds}"))
    assert problem.path == "ticks.write_seconds_max"


def test_a_write_deadline_reaches_the_settings(directory: Path) -> None:
    """They are what the service is made with."""
    found = loaded(directory, written(more="[ticks]\nwrite_seconds_max = 300"))
    assert found.settings.write_seconds_max == 300


def test_a_minimal_configuration_gets_the_defaults(directory: Path) -> None:
    """The host is called what the machine is called; the agent behaves as `AgentSettings` says."""
    config = loaded(directory, written())
    assert config == AgentConfig(
        hostname=socket.gethostname(),
        control_plane=ControlPlaneAddress(URL),
        trust=TrustConfig(directory / "trust.json"),
        identity=IdentityConfig(directory / "host.key"),
        journal=JournalConfig(directory / "journal.db"),
        manifests=ManifestsConfig(directory / "manifests"),
        activator=DirectoryActivatorConfig(
            store=directory / "store",
            profile=directory / "profile",
            switching_from=directory / "profile.switching-from",
            switch_timeout_seconds=300.0,
        ),
        probes=ProbesConfig(),
        ticks=TicksConfig(),
        log=LogConfig(),
    )
    assert config.settings == AgentSettings(socket.gethostname())


def test_what_a_configuration_says_is_how_the_agent_behaves(directory: Path) -> None:
    """Every behaviour of `AgentSettings` has an option."""
    text = 'hostname = "web-01"\n' + written(
        more="""
        [probes]
        interval_seconds_min = 1
        failure_threshold_seconds = 2
        [ticks]
        heartbeat_seconds = 3
        poll_wait_seconds = 4
        tick_seconds = 5.5
        """
    ).replace("[trust]", "[trust]\nfreshness_window_minutes = 6")
    assert loaded(directory, text).settings == AgentSettings(
        hostname="web-01",
        probe_interval_seconds_min=1.0,
        failure_threshold_seconds=2.0,
        heartbeat_seconds=3.0,
        poll_wait_seconds=4.0,
        tick_seconds=5.5,
        freshness_window_minutes=6,
    )


def test_an_empty_configuration_is_told_all_that_it_must_say(directory: Path) -> None:
    """Which options an activator has is not told before its kind is known."""
    assert [problem.path for problem in problems(directory, "")] == [
        "activator.kind",
        "control_plane.url",
        "identity.key_file",
        "journal.path",
        "manifests.cache_directory",
        "trust.file",
    ]


def test_a_misspelt_kind_is_one_problem(directory: Path) -> None:
    """Whether the other options and variables belong to it cannot be told."""
    environ = {"NIXFLEET_ACTIVATOR__CURRENT_SYSTEM": "/run/current-system"}
    (problem,) = problems(directory, written(activator='kind = "nxos"\nstore = 3'), environ)
    assert str(problem) == (
        "activator.kind: unknown value: expected one of command, directory, nixos, "
        "or an installed entry point (none is), "
        'found "nxos"'
    )


def test_an_option_of_the_other_kind_is_refused(directory: Path) -> None:
    """It would have no effect, and whoever wrote it expects one."""
    activator = f'{DIRECTORY}current_system = "/run/current-system"'
    (problem,) = problems(directory, written(activator=activator))
    assert (problem.path, problem.message) == ("activator.current_system", "unknown key")


def test_a_nixos_activator_is_read_with_all_its_options(directory: Path) -> None:
    """Paths and times are the kind's own."""
    activator = """
        kind = "nixos"
        store = "store"
        profile = "system"
        current_system = "store"
        switch_timeout_seconds = 1
        poll_interval_seconds = 2
        realise_timeout_seconds = 3
        command_timeout_seconds = 4
        attempt_file = "attempt"
        roots = "store"
        agent_unit = "our-agent.service"
        on_failed_units = "fail"
        dead_man_seconds = 61
    """
    assert loaded(directory, written(activator=activator)).activator == NixosActivatorConfig(
        directory / "store",
        directory / "system",
        directory / "store",
        1.0,
        2.0,
        3.0,
        4.0,
        directory / "attempt",
        directory / "store",
        "our-agent.service",
        OnFailedUnits.FAIL,
        61.0,
    )


def test_an_activator_for_nixos_gets_every_option_of_its_kind() -> None:
    """Each option, with a value that is not its default, reaches the activator under its own name."""
    config = NixosActivatorConfig(
        Path("store"),
        Path("profile"),
        Path("current"),
        1.5,
        2.5,
        3.5,
        4.5,
        Path("attempt"),
        Path("roots"),
        "our-agent.service",
        OnFailedUnits.FAIL,
        61.0,
    )

    activator = activator_of(config, SystemClock())

    given = {field.name: getattr(activator, field.name) for field in fields(NixosActivatorConfig)}
    assert given == {field.name: getattr(config, field.name) for field in fields(type(config))}
    assert not [it.name for it in fields(type(config)) if given[it.name] == it.default]


def test_an_agent_on_nixos_waits_a_moment_when_it_is_stopped(directory: Path) -> None:
    """Its switch does not end with it, as that of an agent with directories does."""
    nixos = """
        kind = "nixos"
        store = "store"
        profile = "system"
        current_system = "store"
    """
    waits = loaded(directory, written(activator=nixos)).settings.switch_grace_seconds
    assert waits == NIXOS_GRACE_SECONDS
    assert loaded(directory, written()).settings.switch_grace_seconds > waits


@pytest.mark.parametrize("seconds", ["1", "10.5", "-1"])
def test_a_dead_man_timer_shorter_than_a_switch_is_refused(directory: Path, seconds: str) -> None:
    """It would end a switch that is under way, and fight with it."""
    activator = f"""
        kind = "nixos"
        store = "store"
        profile = "system"
        current_system = "store"
        switch_timeout_seconds = 1
        dead_man_seconds = {seconds}
    """
    (problem,) = problems(directory, written(activator=activator))
    assert str(problem).startswith("activator.dead_man_seconds: ")
    assert "expected 0, for none, or" in str(problem)


def test_a_machine_may_have_no_dead_man_timer(directory: Path) -> None:
    """Zero is none."""
    activator = """
        kind = "nixos"
        store = "store"
        profile = "system"
        current_system = "store"
        dead_man_seconds = 0
    """
    config = loaded(directory, written(activator=activator)).activator
    assert isinstance(config, NixosActivatorConfig)
    assert config.dead_man_seconds == 0


def test_a_nixos_activator_has_the_defaults_of_the_activator_itself() -> None:
    """An embedder without a configuration gets the same paths and times."""
    own = {field.name: field.default for field in fields(NixosActivatorConfig)}
    of_activator = {field.name: field.default for field in fields(NixosActivator)}
    assert own == {name: of_activator[name] for name in own}
    assert of_activator.keys() - own.keys() == {
        *("commands", "clock", "booted_system", "boot_id_file", "systemctl", "nix_env")
    }


def test_plain_http_beyond_loopback_is_refused(directory: Path) -> None:
    """The problem names all three ways out."""
    (problem,) = problems(directory, written("http://fleet.example.org:8080"))
    assert str(problem) == (
        "control_plane.url: plain HTTP beyond loopback: expected a loopback address, https://, "
        'or plain_http_beyond_loopback = true, found "fleet.example.org"'
    )


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8080", ""),
        ("http://[::1]:8080/", ""),
        ("http://localhost", ""),
        ("http://fleet.example.org", "plain_http_beyond_loopback = true"),
        ("https://fleet.example.org/", ""),
        ("https://fleet.example.org:8443", "ca_certificate_file = 'authorities.pem'"),
    ],
)
def test_a_url_that_leads_to_a_control_plane_is_accepted(
    directory: Path, url: str, address: str
) -> None:
    """A slash at the end is nothing."""
    config = loaded(directory, written(url, address=address))
    assert config.control_plane.where == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "fleet.example.org",
        "ftp://fleet.example.org",
        "https://",
        "/",
        "https://[::1",
        "https://fleet.example.org:port",
        "https://fleet.example.org:65536",
        "https://fleet.example.org:0",
        "https://fleet.example.org/fleet",
        "https://fleet.example.org?",
        "https://fleet.example.org#here",
    ],
)
def test_a_url_that_leads_to_no_control_plane_is_refused(directory: Path, url: str) -> None:
    """A path is refused too: requests are signed with theirs, which begins at the root."""
    (problem,) = problems(directory, written(url))
    assert (problem.path, problem.message) == ("control_plane.url", "cannot be used")


def test_a_url_with_a_password_is_refused_and_not_shown(directory: Path) -> None:
    """A password in a URL is a secret in a configuration."""
    (problem,) = problems(directory, written("https://host:hunter2@fleet.example.org"))
    assert problem.message == "has credentials"
    assert "hunter2" not in str(problem)


def test_authorities_without_https_are_refused(directory: Path) -> None:
    """Whoever names authorities believes that there is TLS."""
    address = "ca_certificate_file = 'authorities.pem'"
    (problem,) = problems(directory, written("http://localhost", address=address))
    assert (problem.path, problem.message) == (
        "control_plane.ca_certificate_file",
        "has no effect",
    )


def test_a_poll_that_waits_longer_than_it_is_answered_is_refused(directory: Path) -> None:
    """The control plane answers after a minute in any case."""
    (problem,) = problems(directory, written(more="[ticks]\npoll_wait_seconds = 61"))
    assert problem.expected == "more than 0, at most 60"


def test_a_key_that_others_can_read_is_refused(directory: Path) -> None:
    """A key that is there is private; one that is not there yet can still be made."""
    (directory / "host.key").touch(mode=0o600)
    assert loaded(directory, written()).identity.key_file == directory / "host.key"
    (directory / "host.key").chmod(0o640)
    (problem,) = problems(directory, written())
    assert (problem.path, problem.message) == ("identity.key_file", "is accessible to other users")


@pytest.mark.anyio
async def test_an_agent_that_a_switch_script_starts_accepts_its_environment(
    directory: Path,
) -> None:
    """What the activator tells scripts is not taken for options."""
    script = directory / "closure" / "bin" / "switch-to-configuration"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT, encoding="utf-8")
    script.chmod(0o755)
    closure = closure_name_of(directory / "closure", "web")
    (directory / "closure").rename(directory / "store" / closure)
    await DirectoryActivator(directory / "store", directory / "profile").switch(closure)

    lines = (directory / "store" / "environment").read_text(encoding="utf-8").splitlines()
    environ = dict(line.split("=", 1) for line in lines if line.startswith("NIXFLEET_"))
    assert environ["NIXFLEET_CLOSURE"] == closure
    assert loaded(directory, written(), environ).hostname == socket.gethostname()


COMMANDS = """
    kind = "command"
    current = ["/usr/bin/app", "current"]
    prepare = ["/usr/bin/app", "prepare", "{closure}"]
    switch = ["/usr/bin/app", "switch", "{closure}"]
"""


def test_an_activator_of_commands_gets_every_option_of_its_kind(directory: Path) -> None:
    """Each option that is given reaches it; the record is beside the journal."""
    given = """
        rollback = ["app", "back", "{closure}"]
        confirm = ["app", "well"]
        answered = ["app", "good"]
        files = "/srv/{closure}/files"
        agent_unit = "our-agent.service"
        switch_timeout_seconds = 1.5
        prepare_timeout_seconds = 2.5
        command_timeout_seconds = 3.5
        poll_interval_seconds = 4.5
    """
    config = loaded(directory, written(activator=COMMANDS + given))

    activator = activator_of(config.activator, SystemClock())

    assert isinstance(activator, CommandActivator)
    assert activator.commands == Commands(
        ("/usr/bin/app", "current"),
        ("/usr/bin/app", "prepare", "{closure}"),
        ("/usr/bin/app", "switch", "{closure}"),
        ("app", "back", "{closure}"),
        ("app", "well"),
        ("app", "good"),
    )
    assert activator.root_of("a/b") == Path("/srv/a%2Fb/files")
    assert activator.attempt_file == directory / "switch.json"
    times = (activator.switch_timeout_seconds, activator.prepare_timeout_seconds)
    assert (*times, activator.command_timeout_seconds) == (1.5, 2.5, 3.5)
    unit = activator.unit
    assert unit is not None
    assert (unit.agent_unit, unit.poll_interval_seconds) == ("our-agent.service", 4.5)
    assert config.settings.switch_grace_seconds == NIXOS_GRACE_SECONDS


def test_a_switch_within_the_agent_has_no_unit_and_gets_time_to_end(directory: Path) -> None:
    """It ends with the agent, as that of an agent with directories does."""
    config = loaded(directory, written(activator=f"{COMMANDS}\nwithin_agent = true"))

    activator = activator_of(config.activator, SystemClock())

    assert isinstance(activator, CommandActivator)
    assert activator.unit is None
    assert config.settings.switch_grace_seconds > NIXOS_GRACE_SECONDS


def test_every_problem_of_commands_is_named(directory: Path) -> None:
    """What is missing, what names no closure, what is relative, and files that are the same for all."""
    activator = """
        kind = "command"
        prepare = ["app", "fetch"]
        switch = ["bin/app", "{closure}"]
        files = "/srv/files"
    """
    found = {it.path: it.message for it in problems(directory, written(activator=activator))}
    assert found == {
        "activator.current": "missing",
        "activator.prepare": "names no closure",
        "activator.switch": "is a relative path",
        "activator.files": "cannot be used",
    }
