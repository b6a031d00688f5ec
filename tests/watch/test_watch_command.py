"""`nixfleet watch` against a control plane that listens."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio.to_thread
import orjson
import pytest
from attrs import frozen
from click.testing import CliRunner, Result

from nixfleet_cli.main import main
from nixfleet_proto.signing import SigningKey
from tests.support.served_control_plane import OPERATOR_KEY, Site, site_with

pytestmark = pytest.mark.anyio
MOMENT = ("--within-minutes", "0.01")


@frozen
class Watcher:
    """An operator's machine, and a site with a release in force."""

    key_file: Path
    site: Site

    async def run(self, *arguments: str) -> Result:
        """Return what `nixfleet watch` did with these arguments."""
        who = ["--url", self.site.url, "--key", str(self.key_file), "--name", "alice"]
        return await anyio.to_thread.run_sync(
            partial(CliRunner().invoke, main, ["watch", *who, *arguments], catch_exceptions=False)
        )


@pytest.fixture
async def watcher(tmp_path: Path) -> AsyncIterator[Watcher]:
    key_file = tmp_path / "alice.key"
    OPERATOR_KEY.save(key_file)
    async with site_with(tmp_path) as site:
        await site.publish()
        yield Watcher(key_file, site)


async def test_a_rollout_that_an_operator_aborted_ends_the_wait_for_done_with_exit_code_1(
    watcher: Watcher,
) -> None:
    await watcher.site.operate("POST", "/v1/rollouts/stable@r1/abort", b'{"reason": "bad disk"}')
    ended = await watcher.run("stable@r1", "--until", "done")
    assert ended.exit_code == 1
    assert "expected done, found: stable@r1 is aborted" in ended.stderr
    assert "out of time" not in ended.stderr
    assert "stable@r1 is aborted" in ended.stdout


async def test_a_rollout_that_an_operator_aborted_is_what_was_waited_for(watcher: Watcher) -> None:
    await watcher.site.operate("POST", "/v1/rollouts/stable@r1/abort", b'{"reason": "bad disk"}')
    ended = await watcher.run("stable", "--until", "halted", "--json")
    assert ended.exit_code == 0
    assert orjson.loads(ended.stdout)["rollouts"][0]["course"] == "aborted"


async def test_a_pause_without_an_end_needs_a_decision(watcher: Watcher) -> None:
    await watcher.site.operate("POST", "/v1/channels/stable/pause", b'{"reason": "smells odd"}')
    assert (await watcher.run("--until", "decision")).exit_code == 0


@pytest.mark.parametrize("name", ["stable", "stable@r1", "stable@r2"])
async def test_a_wait_that_takes_too_long_is_exit_code_1(watcher: Watcher, name: str) -> None:
    ended = await watcher.run(name, "--until", "done", *MOMENT)
    assert ended.exit_code == 1
    assert "out of time: expected done within 0.01 minutes" in ended.stderr


async def test_a_key_that_the_control_plane_refuses_is_exit_code_1(watcher: Watcher) -> None:
    other = watcher.key_file.with_name("other.key")
    SigningKey.generate().save(other)
    ended = await watcher.run("stable", "--until", "done", "--key", str(other))
    assert ended.exit_code == 1
    assert "out of time" not in ended.stderr


async def test_a_control_plane_that_does_not_answer_at_first_is_exit_code_2(
    watcher: Watcher,
) -> None:
    ended = await watcher.run("stable", "--until", "done", "--url", "http://127.0.0.1:1")
    assert ended.exit_code == 2
    assert "cannot connect to http://127.0.0.1:1" in ended.stderr


async def test_a_limit_without_a_wait_is_a_usage_error(watcher: Watcher) -> None:
    ended = await watcher.run(*MOMENT)
    assert ended.exit_code == 2
    assert "expected --until with --within-minutes" in ended.stderr


async def test_a_rollout_id_that_is_none_is_refused(watcher: Watcher) -> None:
    ended = await watcher.run("stable@", "--until", "done")
    assert ended.exit_code == 2
    assert "expected a channel or a rollout" in ended.stderr
