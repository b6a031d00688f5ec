"""`[lock]` of an agent's configuration: what it says, and what makes no sense."""

from pathlib import Path

import pytest

from nixfleet_agent.config import AgentConfig, LockConfig, load_agent_config, read_agent_config
from nixfleet_agent.locks.program import LockProgram
from nixfleet_runtime.config.check import describe
from nixfleet_runtime.config.options import ConfigError, load

CONFIG = """
[control_plane]
url = "https://fleet.example.org"
[trust]
file = "trust.json"
[identity]
key_file = "host.key"
[journal]
path = "journal.db"
[manifests]
cache_directory = "manifests"
[activator]
kind = "directory"
store = "store"
profile = "profile"
"""


def written(directory: Path, lock: str) -> Path:
    (directory / "trust.json").touch()
    (directory / "store").mkdir(exist_ok=True)
    file = directory / "agent.toml"
    file.write_text(f"{CONFIG}{lock}", encoding="utf-8")
    return file


def loaded(directory: Path, lock: str) -> AgentConfig:
    return load_agent_config(written(directory, lock), {})


def test_a_configuration_without_a_lock_asks_nothing(tmp_path: Path) -> None:
    """As before there were locks."""
    config = loaded(tmp_path, "")
    assert config.lock == LockConfig()
    assert config.lock.program is None


def test_a_lock_is_a_program_with_its_arguments_and_times(tmp_path: Path) -> None:
    """The settings have the time after which it is asked again."""
    lock = '[lock]\nmay_activate = ["/etc/may", "--quiet"]\ntimeout_seconds = 5\nask_again_seconds = 120\n'
    config = loaded(tmp_path, lock)
    assert config.lock.program == LockProgram(("/etc/may", "--quiet"), 5.0)
    assert config.settings.ask_again_seconds == 120.0


def test_a_lock_may_come_from_the_environment_and_is_shown(tmp_path: Path) -> None:
    """As every option."""
    variables = {"NIXFLEET_LOCK__MAY_ACTIVATE": '["may-activate", "a b"]'}
    found = load(written(tmp_path, ""), variables, read_agent_config)
    assert found.config.lock.may_activate == ("may-activate", "a b")
    lines = [line for line in describe(found.options) if line.startswith("lock.may_activate")]
    assert 'lock.may_activate = ["may-activate", "a b"]' in lines[0]


BAD = {
    "no program": ("may_activate = []", "lock.may_activate: empty"),
    "a text": ('may_activate = "/etc/may"', "lock.may_activate"),
    "a number among them": ('may_activate = ["/etc/may", 1]', "lock.may_activate[1]"),
    "a relative path": (
        'may_activate = ["bin/may"]',
        "lock.may_activate: is a relative path: expected an absolute path, or the name of a program in PATH",
    ),
    "a NUL": ('may_activate = ["may\\u0000"]', "lock.may_activate: cannot be used"),
    "no time at all": (
        'may_activate = ["may"]\ntimeout_seconds = 0',
        "lock.timeout_seconds: out of range",
    ),
    "more time than a dispatch may wait": (
        'may_activate = ["may"]\ntimeout_seconds = 301',
        "lock.timeout_seconds: out of range",
    ),
    "asked at each second": (
        'may_activate = ["may"]\nask_again_seconds = 1',
        "lock.ask_again_seconds: too short: expected at least 60",
    ),
    "asked in a month": (
        'may_activate = ["may"]\nask_again_seconds = 2592000',
        "lock.ask_again_seconds: out of range",
    ),
    "times of nothing": ("timeout_seconds = 5", "lock.timeout_seconds: has no effect"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_lock_that_makes_no_sense_is_refused_by_its_path(tmp_path: Path, name: str) -> None:
    """Before anything is started."""
    lock, problem = BAD[name]
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, f"[lock]\n{lock}\n")
    assert problem in str(refused.value)
