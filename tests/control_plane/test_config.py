"""The control plane's configuration: a minimal one, a full one, and those that would be a mistake to run."""

import inspect
from datetime import time
from pathlib import Path

import pytest
from attrs import asdict, evolve

from nixfleet_control_plane.config import (
    ControlPlaneConfig,
    LimitsConfig,
    ListenConfig,
    ReleasesConfig,
    TicksConfig,
    TlsConfig,
    load_control_plane_config,
)
from nixfleet_control_plane.config_store import sqlite_config
from nixfleet_control_plane.history.retention.worker import RetentionConfig
from nixfleet_control_plane.http.server.limits import Limits
from nixfleet_control_plane.term import limits_of
from nixfleet_runtime.config.options import ConfigError
from nixfleet_runtime.config.sections import LogConfig, TrustConfig
from nixfleet_runtime.kernel.mutator import SingleMutator
from nixfleet_state_machine.host.effect import LogLevel

MINIMAL = """
[store]
path = "control-plane.db"
[trust]
file = "trust.json"
[releases]
directory = "releases"
"""
TLS = "tls_certificate_file = 'certificate.pem'\ntls_key_file = 'key.pem'\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with every file that a configuration may name."""
    for name in ("trust.json", "certificate.pem", "key.pem"):
        (tmp_path / name).touch(mode=0o600)
    (tmp_path / "releases").mkdir()
    return tmp_path


def loaded(directory: Path, text: str, **environ: str) -> ControlPlaneConfig:
    file = directory / "control-plane.toml"
    file.write_text(text, encoding="utf-8")
    return load_control_plane_config(file, environ)


def told(directory: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text)
    return [(problem.path, problem.found) for problem in caught.value.problems]


def test_a_store_is_named_for_the_command_line_by_its_path_or_by_its_configuration(
    directory: Path,
) -> None:
    """What an error of a start advises can be typed as it is."""
    store = loaded(directory, MINIMAL).store
    assert store.argument == str(directory / "control-plane.db")
    assert evolve(store, path=None).argument == f"--config {directory / 'control-plane.toml'}"


def test_a_minimal_configuration_gets_the_defaults(directory: Path) -> None:
    """Where the database, the trust file and the releases are has no default; everything else has."""
    assert loaded(directory, MINIMAL) == ControlPlaneConfig(
        store=sqlite_config(directory / "control-plane.db"),
        listen=ListenConfig(),
        trust=TrustConfig(directory / "trust.json"),
        releases=ReleasesConfig(directory / "releases"),
        limits=LimitsConfig(),
        ticks=TicksConfig(),
        log=LogConfig(),
    )


def test_everything_that_a_configuration_may_say_is_read(directory: Path) -> None:
    """Each option comes out where it belongs."""
    text = f"""
        {MINIMAL.replace('"trust.json"', '"trust.json"' + chr(10) + "freshness_window_minutes = 60")}
        poll_seconds = 1
        [listen]
        host = "::"
        port = 8443
        {TLS}
        behind_proxy = true
        [limits]
        body_bytes_max = 2_000_000
        bodies_bytes_max = 3_000_000
        body_seconds_max = 2.5
        header_bytes_max = 5000
        pollers_per_host_max = 1
        pollers_max = 10
        queue_length_max = 11
        header_seconds_max = 3.5
        answer_seconds_max = 4.5
        keep_alive_seconds = 5
        connections_max = 12
        host_requests_per_second_max = 13
        host_events_per_second_max = 14
        viewers_per_operator_max = 15
        viewers_max = 16
        [ticks]
        plan_seconds = 0.5
        [log]
        level = "warning"
        [forecast]
        disabled = true
        [retention]
        directory = "archive"
        keep_days = 30
        at = "04:45"
    """
    config = loaded(directory, text)
    tls = TlsConfig(directory / "certificate.pem", directory / "key.pem")
    assert config.listen == ListenConfig("::", 8443, tls, behind_proxy=True)
    assert config.trust.freshness_window_minutes == 60
    assert config.releases.poll_seconds == 1.0
    assert config.limits == LimitsConfig(
        2_000_000, 3_000_000, 2.5, 5000, 1, 10, 11, 3.5, 4.5, 5, 12, 13, 14, 15, 16
    )
    assert config.ticks.plan_seconds == 0.5
    assert config.log.level is LogLevel.WARNING
    assert config.forecast.disabled
    assert config.retention == RetentionConfig(directory / "archive", 30, time(4, 45))


def test_an_empty_configuration_is_told_all_that_it_must_say(directory: Path) -> None:
    """What is missing is told at once, and nothing that follows from it."""
    assert told(directory, "") == [
        ("releases.directory", "nothing"),
        ("store.path", "nothing"),
        ("trust.file", "nothing"),
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "fleet.example.org"])
def test_plain_http_beyond_loopback_is_refused(directory: Path, host: str) -> None:
    """The problem names all three ways out."""
    with pytest.raises(ConfigError) as caught:
        loaded(directory, f"{MINIMAL}[listen]\nhost = '{host}'")
    assert [str(problem) for problem in caught.value.problems] == [
        "listen.host: plain HTTP beyond loopback: expected a loopback address, tls_certificate_file and "
        f'tls_key_file, or plain_http_beyond_loopback = true, found "{host}"'
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_plain_http_on_loopback_is_accepted(directory: Path, host: str) -> None:
    """What stays on the machine needs no permission."""
    assert loaded(directory, f"{MINIMAL}[listen]\nhost = '{host}'").listen.host == host


@pytest.mark.parametrize("permission", [TLS, "plain_http_beyond_loopback = true"])
def test_listening_beyond_loopback_is_accepted_with_tls_or_permission(
    directory: Path, permission: str
) -> None:
    """Either the connection is secret, or somebody said by name that it need not be."""
    config = loaded(directory, f"{MINIMAL}[listen]\nhost = '0.0.0.0'\n{permission}")
    assert (config.listen.tls is None) == config.listen.plain_http_beyond_loopback


@pytest.mark.parametrize("missing", ["tls_certificate_file", "tls_key_file"])
def test_one_tls_file_without_the_other_is_refused(directory: Path, missing: str) -> None:
    """The problem stands at the one that is missing; plain HTTP is not told as well."""
    lines = [line for line in TLS.splitlines() if missing not in line]
    text = "\n".join([MINIMAL, "[listen]", "host = '0.0.0.0'", *lines])
    assert told(directory, text) == [(f"listen.{missing}", "nothing")]


def test_a_tls_key_that_others_can_read_is_refused(directory: Path) -> None:
    """A key that is not private is one problem, and listening without TLS no second one."""
    (directory / "key.pem").chmod(0o644)
    found = told(directory, f"{MINIMAL}[listen]\nhost = '0.0.0.0'\n{TLS}")
    assert found == [("listen.tls_key_file", "mode 0644")]


@pytest.mark.parametrize(
    ("section", "setting", "expected"),
    [
        ("listen", "port = -1", "0 to 65535"),
        ("listen", "port = 65536", "0 to 65535"),
        ("limits", "body_bytes_max = 1048575", "1048576 or more"),
        ("limits", "header_bytes_max = 4095", "4096 or more"),
        ("limits", "pollers_max = 0", "1 or more"),
        ("limits", "header_seconds_max = 0", "more than 0"),
        ("limits", "answer_seconds_max = -1", "more than 0"),
        ("limits", "keep_alive_seconds = 0", "1 or more"),
        ("limits", "connections_max = 0", "1 or more"),
        ("ticks", "plan_seconds = 0", "more than 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused(
    directory: Path, section: str, setting: str, expected: str
) -> None:
    """The range is told."""
    with pytest.raises(ConfigError) as caught:
        loaded(directory, f"{MINIMAL}[{section}]\n{setting}")
    assert [problem.expected for problem in caught.value.problems] == [expected]


@pytest.mark.parametrize(
    ("setting", "found"), [("pollers_max = 25_000", "25000"), ("connections_max = 100", "20000")]
)
def test_as_many_polls_as_connections_are_refused(
    directory: Path, setting: str, found: str
) -> None:
    """Who polls holds a connection, so hosts that wait would keep everybody else out."""
    assert told(directory, f"{MINIMAL}[limits]\n{setting}") == [("limits.pollers_max", found)]


@pytest.mark.parametrize("seconds", ["0", "-1", "4.9", "601", "inf", "nan"])
def test_a_write_deadline_that_ends_a_busy_or_no_control_plane_is_refused(
    directory: Path, seconds: str
) -> None:
    """Less than any busy disk takes, or longer than anybody waits."""
    setting = MINIMAL.replace("[store]", f"[store]\nwrite_seconds_max = {seconds}")
    (place, _), *others = told(directory, setting)
    assert (place, others) == ("store.write_seconds_max", [])


def test_a_write_deadline_is_taken_over(directory: Path) -> None:
    """From the file, or the default of the kernel."""
    longer = MINIMAL.replace("[store]", "[store]\nwrite_seconds_max = 300")
    assert loaded(directory, longer).store.write_seconds_max == 300
    assert loaded(directory, MINIMAL).store.write_seconds_max == 60


RETENTION = '[retention]\ndirectory = "archive"\n'


def test_retention_is_off_unless_a_directory_is_named(directory: Path) -> None:
    """With the defaults of the guide if only that is named; the directory need not be there yet."""
    assert loaded(directory, MINIMAL).retention is None
    found = loaded(directory, MINIMAL + RETENTION).retention
    assert found == RetentionConfig(directory / "archive", 90, time(3, 0))


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ('[retention]\nat = "04:00"\n', "retention.directory"),
        (f"{RETENTION}keep_days = 0\n", "retention.keep_days"),
        (f"{RETENTION}keep_days = 40000\n", "retention.keep_days"),
        *(
            (f'{RETENTION}at = "{at}"\n', "retention.at")
            for at in (
                "24:00",
                "3:00",
                "03.00",
                "0300",
                "03:60",
                "soon",
                "\u0660\u0663:\u0660\u0660",
            )
        ),
        (f"{RETENTION}days = 3\n", "retention.days"),
    ],
)
def test_what_retention_cannot_do_is_refused(directory: Path, setting: str, place: str) -> None:
    """Each with its own place, and nothing else with it."""
    assert [each for each, _ in told(directory, MINIMAL + setting)] == [place]


def test_room_for_less_than_one_body_is_refused(directory: Path) -> None:
    """No body could be taken at all."""
    setting = "[limits]\nbodies_bytes_max = 1_000_000"
    assert told(directory, MINIMAL + setting) == [("limits.bodies_bytes_max", "1000000")]


def test_the_environment_goes_before_the_file(directory: Path) -> None:
    """A variable is enough to have another port."""
    config = loaded(directory, f"{MINIMAL}[listen]\nport = 1", NIXFLEET_LISTEN__PORT="2")
    assert config.listen.port == 2


def test_every_limit_of_http_is_an_option_and_has_the_same_default() -> None:
    """An embedder without a configuration gets the same limits, and none is out of an operator's reach."""
    options = asdict(LimitsConfig())
    assert asdict(Limits()).items() <= options.items()


def test_the_queue_is_as_long_as_the_mutator_has_it_by_default() -> None:
    """An embedder without a configuration gets the same limit."""
    parameters = inspect.signature(SingleMutator.__init__).parameters
    assert parameters["queue_length_max"].default == LimitsConfig().queue_length_max


def test_the_server_has_each_limit_of_the_configuration() -> None:
    """Under the same name; that of the queue is for the mutator."""
    given = {name: number for number, name in enumerate(asdict(LimitsConfig()), start=1)}
    limits = asdict(limits_of(LimitsConfig(**given)))
    del given["queue_length_max"]
    assert limits == given
