"""`[shards]` of a control plane's configuration: what it says, and what is refused, each with its path."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nixfleet_control_plane.config import load_control_plane_config
from nixfleet_control_plane.config_shards import shard_map
from nixfleet_proto.codec import encode_trust_root
from nixfleet_runtime.config.options import ConfigError
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap
from tests.engines.releases import Publisher
from tests.support.control_plane_process import CONFIG

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "trust.json").write_bytes(encode_trust_root(Publisher().trust))
    (tmp_path / "releases").mkdir()

    def write(shards: str) -> Path:
        file = tmp_path / "control-plane.toml"
        file.write_text(CONFIG + shards)
        return file

    return write


def test_a_configuration_without_shards_has_one(write: Write) -> None:
    config = load_control_plane_config(write(""), {})
    assert config.shards == ()
    assert shard_map(config.shards) == ShardMap()


def test_each_shard_has_its_channels_and_a_store(write: Write, tmp_path: Path) -> None:
    config = load_control_plane_config(
        write('[shards.data]\nchannels = ["db", "cache"]\n[shards.data.store]\npath = "data.db"\n'),
        {},
    )
    (data,) = config.shards
    assert (data.name, data.channels, data.store.path) == (
        "data",
        ("db", "cache"),
        tmp_path / "data.db",
    )
    assert shard_map(config.shards).shard_of("cache") == "data"
    assert shard_map(config.shards).shard_of("web") == MAIN


@pytest.mark.parametrize(
    ("shards", "path", "words"),
    [
        (
            '[shards.main]\nchannels = ["db"]\nstore = {path = "x.db"}',
            "shards.main",
            "is always there",
        ),
        ('[shards."a b"]\nchannels = ["db"]\nstore = {path = "x.db"}', "shards", "not a name"),
        (
            '[shards.data]\nstore = {path = "x.db"}',
            "shards.data.channels",
            "all others are in main",
        ),
        ('[shards.data]\nchannels = []\nstore = {path = "x.db"}', "shards.data.channels", ""),
        ('[shards.data]\nchannels = ["db"]', "shards.data.store.path", ""),
        (
            '[shards.a]\nchannels = ["db"]\nstore = {path = "a.db"}\n'
            '[shards.b]\nchannels = ["db"]\nstore = {path = "b.db"}',
            "shards.b.channels",
            "which is in shard a",
        ),
        (
            '[shards.data]\nchannels = ["db"]\nstore = {path = "control-plane.db"}',
            "shards.data.store.path",
            "the store of another shard",
        ),
        (
            '[shards.data]\nchanels = ["db"]\nstore = {path = "x.db"}',
            "shards.data.chanels",
            "channels",
        ),
        (
            '[retention]\ndirectory = "."\n[shards.a]\nchannels = ["db"]\nstore = {path = "a.db"}',
            "retention: not beside [shards]",
            "the logs of shards are kept whole",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_path(
    write: Write, shards: str, path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_control_plane_config(write(shards), {})
    found = [str(problem) for problem in refused.value.problems]
    assert any(path in each and words in each for each in found), found
