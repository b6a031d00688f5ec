"""`nixfleet fleet check --config`: a budget that would join two shards is refused before anything is signed."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main

FLEET = """
[channels.db]
policy = "all"
[channels.web]
policy = "all"
[hosts.db-1]
channel = "db"
tags = ["critical"]
[hosts.web-1]
channel = "web"
tags = ["critical"]
[policies.all]
[[budgets]]
selector = { tags = ["critical"] }
max_in_flight = 1
"""


def _check(directory: Path, fleet: str, config: str) -> tuple[int, str]:
    (directory / "fleet.toml").write_text(fleet)
    (directory / "control-plane.toml").write_text(config)
    command = ("fleet", "check", "fleet.toml", "--config", "control-plane.toml")
    result = CliRunner().invoke(
        main, [str(directory / it) if it.endswith(".toml") else it for it in command]
    )
    return result.exit_code, result.output


def test_a_budget_over_two_shards_is_refused_with_its_place(tmp_path: Path) -> None:
    code, said = _check(tmp_path, FLEET, '[shards.data]\nchannels = ["db"]')
    assert code == 1
    assert "budgets[0].selector: shared by channels of several shards" in said
    assert "found db in data; web in main" in said


@pytest.mark.parametrize(
    "config", ["", '[shards.data]\nchannels = ["db", "web"]', '[shards.data]\nchannels = ["other"]']
)
def test_a_budget_within_one_shard_passes(tmp_path: Path, config: str) -> None:
    assert _check(tmp_path, FLEET, config)[0] == 0


def test_a_disabled_host_joins_nothing(tmp_path: Path) -> None:
    fleet = FLEET.replace('channel = "web"', 'channel = "web"\nenabled = false')
    assert _check(tmp_path, fleet, '[shards.data]\nchannels = ["db"]')[0] == 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("shards = 3", "expected tables"),
        ('[shards.data]\nchannels = "db"', "expected tables"),
        (
            '[shards.a]\nchannels = ["db"]\n[shards.b]\nchannels = ["db"]',
            "expected one shard, found shards 'a' and 'b'",
        ),
    ],
)
def test_shards_that_cannot_be_are_refused(tmp_path: Path, config: str, words: str) -> None:
    code, said = _check(tmp_path, FLEET, config)
    assert code == 1
    assert words in said
