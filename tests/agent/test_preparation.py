"""Preparing the directory of a new agent: what is in it afterwards, what is refused, what is never overwritten."""

from pathlib import Path

import anyio
import pytest

from nixfleet_agent.activation.directory import DirectoryActivator
from nixfleet_agent.config import DirectoryActivatorConfig, load_agent_config
from nixfleet_agent.preparation import AlreadyPrepared, PreparedAgent, prepare_agent
from nixfleet_runtime.config.options import ConfigError
from nixfleet_runtime.releases.nar import InvalidClosureName, closure_name_of

URL = "https://fleet.example.org"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the machine runs now; beside it a trust file."""
    tree = tmp_path / "base"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/serve").write_text("#!/bin/sh\n")
    (tmp_path / "trust.json").touch()
    return tree


def prepared(tree: Path, directory: Path, url: str = URL) -> PreparedAgent:
    return prepare_agent(directory, "web-01", url, tree.parent / "trust.json", tree)


def test_a_prepared_directory_is_all_that_an_agent_needs(tree: Path, tmp_path: Path) -> None:
    """The configuration loads, the key is the host's, and the activator finds the copied tree running."""
    made = prepared(tree, tmp_path / "web-01")

    config = load_agent_config(made.config, {})
    assert (config.hostname, config.control_plane.where) == ("web-01", URL)
    assert config.trust.file == tmp_path / "trust.json"
    assert config.identity.key_file.stat().st_mode & 0o777 == 0o600
    assert isinstance(config.activator, DirectoryActivatorConfig)
    activator = DirectoryActivator(config.activator.store, config.activator.profile)
    assert made.closure == closure_name_of(tree, "base")
    assert anyio.run(activator.current) == made.closure
    assert (activator.root_of(made.closure) / "bin/serve").is_file()


def test_a_closure_keeps_its_name_as_the_first_one(tree: Path, tmp_path: Path) -> None:
    """A tree that is a closure already is not given its hash twice."""
    closure = tree.rename(tmp_path / closure_name_of(tree, "base"))

    assert prepared(closure, tmp_path / "web-01").closure == closure.name


def test_a_prepared_directory_is_left_as_it_is(tree: Path, tmp_path: Path) -> None:
    """A second preparation names the configuration that it found, and changes nothing."""
    made = prepared(tree, tmp_path / "web-01")
    before = contents_of(tmp_path / "web-01")

    with pytest.raises(AlreadyPrepared) as refused:
        prepared(tree, tmp_path / "web-01", "https://other.example.org")

    assert refused.value.path == made.config
    assert contents_of(tmp_path / "web-01") == before


def contents_of(directory: Path) -> dict[Path, tuple[int, int, int, int]]:
    """Which entry each path has, with its mode, size and time of change. Reading one changes its time of access."""
    stats = {path: path.lstat() for path in directory.rglob("*")}
    return {
        path: (stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns)
        for path, stat in stats.items()
    }


def test_a_link_to_another_closure_is_not_replaced(tree: Path, tmp_path: Path) -> None:
    """What runs is what a rollback returns to: a profile that leads elsewhere is refused."""
    (tmp_path / "web-01").mkdir()
    profile = tmp_path / "web-01/current"
    profile.symlink_to("elsewhere")

    with pytest.raises(AlreadyPrepared) as refused:
        prepared(tree, tmp_path / "web-01")

    assert refused.value.path == profile
    assert profile.readlink() == Path("elsewhere")


def test_an_interrupted_preparation_is_completed_by_the_same_call(
    tree: Path, tmp_path: Path
) -> None:
    """Without its configuration, a directory has the same closure and the same key after a second call."""
    first = prepared(tree, tmp_path / "web-01")
    first.config.unlink()

    second = prepared(tree, tmp_path / "web-01")

    assert (second.closure, second.key.fingerprint) == (first.closure, first.key.fingerprint)
    assert not second.key.is_new
    assert not list((tmp_path / "web-01").rglob(".*"))


def test_an_address_that_no_agent_could_use_is_refused_before_anything_is_selected(
    tree: Path, tmp_path: Path
) -> None:
    """The values are checked as a configuration is, so that what is written can be run."""
    with pytest.raises(ConfigError, match=r"control_plane\.url"):
        prepared(tree, tmp_path / "web-01", "ftp://fleet.example.org")

    assert not [path for path in (tmp_path / "web-01").rglob("*") if path.name != "closures"]


def test_a_tree_whose_name_no_closure_can_have_is_refused(tree: Path, tmp_path: Path) -> None:
    """The name of a tree becomes part of the closure's, and the refusal leaves no copy behind."""
    named = tree.rename(tmp_path / "a b")

    with pytest.raises(InvalidClosureName):
        prepared(named, tmp_path / "web-01")

    assert not list((tmp_path / "web-01/closures").iterdir())


def test_a_name_with_quotes_is_written_as_toml_spells_it(tree: Path, tmp_path: Path) -> None:
    """Whatever a host is called, the configuration reads back the same name."""
    made = prepare_agent(tmp_path / "x", 'web "1"', URL, tree.parent / "trust.json", tree)

    assert load_agent_config(made.config, {}).hostname == 'web "1"'
