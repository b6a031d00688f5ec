"""Paths in a configuration: where they start, what must stand at their end, and that secrets do not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nixfleet_runtime.config.options import ConfigError, load
from nixfleet_runtime.config.path_checks import (
    PathCheck,
    directory_to_fill,
    file_to_write,
    link_to_replace,
    private_file,
    private_file_if_there,
    private_file_to_make,
    readable_directory,
    readable_file,
)
from nixfleet_runtime.documents.problems import Problem

HEX_KEY = "0123456789abcdef" * 4
Make = Callable[[Path], None]


def nothing(path: Path) -> None:
    pass


def a_file(path: Path) -> None:
    path.touch(mode=0o600)


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    path.symlink_to(path.with_name("target"))


def a_link_to_a_file(path: Path) -> None:
    a_file(path.with_name("target"))
    a_link(path)


def a_circle(path: Path) -> None:
    path.symlink_to(path)


def problems_of(file: Path, check: PathCheck, *, environ: dict[str, str]) -> tuple[Problem, ...]:
    try:
        load(file, environ, lambda root: root.path("it_file", check))
    except ConfigError as error:
        return error.problems
    return ()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that names `data/it`, with the directory there."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "side.toml"
    file.write_text("it_file = 'data/it'\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("check", "make"),
    [
        (readable_file, a_file),
        (readable_file, a_link_to_a_file),
        (private_file, a_file),
        (private_file_if_there, a_file),
        (private_file_if_there, nothing),
        (private_file_to_make, a_file),
        (private_file_to_make, nothing),
        (file_to_write, a_file),
        (file_to_write, nothing),
        (readable_directory, a_directory),
        (directory_to_fill, a_directory),
        (directory_to_fill, nothing),
        (link_to_replace, a_link),
        (link_to_replace, nothing),
    ],
)
def test_a_path_that_leads_to_what_is_needed_is_accepted(
    config: Path, check: PathCheck, make: Make
) -> None:
    """What is made later need not be there, if only it can be made."""
    make(config.parent / "data" / "it")
    assert problems_of(config, check, environ={}) == ()


@pytest.mark.parametrize(
    ("check", "make", "message"),
    [
        (readable_file, nothing, "does not exist"),
        (readable_file, a_link, "does not exist"),
        (readable_file, a_directory, "is of another kind"),
        (readable_file, a_circle, "cannot be accessed"),
        (readable_file, os.mkfifo, "is of another kind"),
        (private_file, nothing, "does not exist"),
        (private_file_if_there, a_link, "does not exist"),
        (private_file_if_there, a_directory, "is of another kind"),
        (file_to_write, a_directory, "is of another kind"),
        (readable_directory, nothing, "does not exist"),
        (readable_directory, a_file, "is of another kind"),
        (directory_to_fill, a_file, "is of another kind"),
        (link_to_replace, a_file, "is not a symbolic link"),
        (link_to_replace, a_directory, "is not a symbolic link"),
    ],
)
def test_a_path_that_leads_to_something_else_is_refused(
    config: Path, check: PathCheck, make: Make, message: str
) -> None:
    """The problem has the place of the option and the whole path."""
    make(config.parent / "data" / "it")
    (problem,) = problems_of(config, check, environ={})
    assert (problem.path, problem.message) == ("it_file", message)
    assert str(config.parent / "data" / "it") in problem.expected


@pytest.mark.parametrize(
    "check", [private_file_to_make, file_to_write, directory_to_fill, link_to_replace]
)
def test_what_could_not_be_made_is_refused(tmp_path: Path, check: PathCheck) -> None:
    """A directory that is missing on the way is told by its path."""
    file = tmp_path / "side.toml"
    file.write_text("it_file = 'none/it'\n", encoding="utf-8")
    (problem,) = problems_of(file, check, environ={})
    assert problem.message == "does not exist"
    assert problem.expected == f"a writable directory at {tmp_path}/none"


@pytest.mark.parametrize("check", [private_file, private_file_if_there, private_file_to_make])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610])
def test_a_secret_file_that_others_can_reach_is_refused(
    config: Path, check: PathCheck, mode: int
) -> None:
    """Key files are their owner's alone; the mode is told."""
    key = config.parent / "data" / "it"
    key.touch()
    key.chmod(mode)
    (problem,) = problems_of(config, check, environ={})
    assert (problem.expected, problem.found) == (f"mode 0600 at {key}", f"mode {mode:04o}")


def test_relative_paths_start_at_the_configuration(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the process happens to be; from the environment neither."""
    monkeypatch.chdir("/")
    it = config.parent / "data" / "it"
    it.touch()
    for environ in ({}, {"NIXFLEET_IT_FILE": "data/it"}, {"NIXFLEET_IT_FILE": str(it)}):
        found = load(config, environ, lambda root: root.path("it_file", readable_file))
        assert found.config == it


@pytest.mark.parametrize(
    "secret",
    [
        HEX_KEY,
        "-----BEGIN PRIVATE KEY-----\nMC4CAQ",
        "MC4CAQAwBQYDK2VwBCIEIGbE/0z+MC4CAQAwBQYDK2Vw=",
        '{"token": {"nonce": "n"}}',
    ],
)
def test_a_secret_in_place_of_its_path_is_refused_and_not_shown(config: Path, secret: str) -> None:
    """Whoever pastes a key into a configuration does not find it in the logs as well."""
    (problem,) = problems_of(config, private_file, environ={"NIXFLEET_IT_FILE": secret})
    assert problem.message == "looks like the content of a file"
    assert secret[:20] not in str(problem)


def test_a_path_with_a_nul_character_is_refused(config: Path) -> None:
    """What no file can be called is a problem, not an exception."""
    config.write_text('it_file = "a\\u0000b"\n', encoding="utf-8")
    (problem,) = problems_of(config, file_to_write, environ={})
    assert problem.path == "it_file"


@pytest.mark.parametrize("key", ["key", "it_token", "password", "passphrase", "client_secret"])
def test_a_key_for_a_secret_is_refused_and_its_value_not_shown(config: Path, key: str) -> None:
    """There is no option for a secret itself, in the file or in the environment."""
    (config.parent / "data" / "it").touch(mode=0o600)
    config.write_text(f"it_file = 'data/it'\n{key} = 'hunter2'\n", encoding="utf-8")
    found = problems_of(
        config, private_file, environ={f"NIXFLEET_IDENTITY__{key.upper()}": "hunter2"}
    )
    assert len(found) == 2
    assert all("secrets are not options" in problem.message for problem in found)
    assert "hunter2" not in str(found)


def test_a_credential_of_the_service_manager_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd gives it mode 0440, in a directory that is closed to others; the same file elsewhere is refused."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    for file in (directory / "postgres.url", tmp_path / "postgres.url"):
        file.write_text("postgresql://")
        file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))

    assert private_file(directory / "postgres.url") is None
    problem = private_file(tmp_path / "postgres.url")
    assert problem is not None
    assert problem.message == "is accessible to other users"
