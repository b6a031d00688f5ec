"""`nixfleet operator` against a control plane that listens: commands, lists, and refusals in words."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio.to_thread
import orjson
import pytest
from attrs import frozen
from click.testing import CliRunner, Result

from nixfleet_cli.main import main
from nixfleet_control_plane.messages.inputs import OperatorCommand
from nixfleet_control_plane.messages.log_entry import Commanded
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_proto.signing import SigningKey
from tests.support.served_control_plane import OPERATOR_KEY, READER_KEY, STRANGER, Site, site_with

pytestmark = pytest.mark.anyio
WHY = ("--reason", "maintenance")


@frozen
class OperatorConsole:
    """An operator's machine: keys in files, and a site."""

    directory: Path
    site: Site

    async def run(
        self, *arguments: str, name: str = "alice", key: SigningKey = OPERATOR_KEY, url: str = ""
    ) -> Result:
        """Return what `nixfleet operator` did with these arguments."""
        key_file = self.directory / f"{key.public_key.public_key[:8]}.key"
        if not key_file.exists():
            key.save(key_file)
        who = ["--url", url or self.site.url, "--key", str(key_file), "--name", name]
        whole = ["operator", *arguments, *who]
        return await anyio.to_thread.run_sync(
            partial(CliRunner().invoke, main, whole, catch_exceptions=False)
        )

    def commanded(self) -> list[OperatorCommand]:
        """Return every command in the log."""
        connection = open_for_reading(self.site.database)
        try:
            entries = [logged.entry for logged in log_entries(connection)]
        finally:
            connection.close()
        return [entry.command for entry in entries if isinstance(entry, Commanded)]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[OperatorConsole]:
    async with site_with(tmp_path) as site:
        yield OperatorConsole(tmp_path, site)


@pytest.mark.parametrize("scope", ["stable", "stable@r1"])
async def test_a_pause_holds_what_was_queued_and_is_in_the_log_by_name(
    scope: str, desk: OperatorConsole
) -> None:
    """The dispatch that waits for its host is not handed out any more; after the resumption it is."""
    await desk.site.publish()
    paused = await desk.run("pause", scope, *WHY)
    assert (paused.exit_code, paused.stdout) == (0, f"{scope} is paused\n")
    async with desk.site.agent() as agent:
        assert await agent.next_dispatch(0) is None
        assert (await desk.run("resume", scope, *WHY)).exit_code == 0
        assert await agent.next_dispatch(5) is not None
    assert [(command.operator, command.reason) for command in desk.commanded()] == [
        ("alice", "maintenance")
    ] * 2


async def test_a_command_that_has_nothing_to_do_is_refused_in_words(desk: OperatorConsole) -> None:
    """Exit code 1, and what there is."""
    await desk.site.publish()
    for arguments, said in (
        (("pause", "edge", *WHY), "expected a channel or a rollout, found 'edge'"),
        (("resume", "stable", *WHY), "stable is not paused"),
        (("clear", "stable@r1", *WHY), "to be Reverted or Failed, found Active"),
        (("clear", "stable@r9", "--excuse", "web-01", *WHY), "no rollout stable@r9 exists"),
        (("retire", "stable", "a-closure", *WHY), "a-closure is not quarantined on stable"),
    ):
        refused = await desk.run(*arguments)
        assert refused.exit_code == 1, arguments
        assert said in refused.stderr, arguments
    assert desk.commanded() == []


async def test_who_may_only_read_may_not_command(desk: OperatorConsole) -> None:
    """The refusal says which role it takes."""
    await desk.site.publish()
    refused = await desk.run("pause", "stable", *WHY, name="bob", key=READER_KEY)
    assert refused.exit_code == 1
    assert "expected role operate, found read for bob" in refused.stderr
    assert (await desk.run("rollouts", name="bob", key=READER_KEY)).exit_code == 0


async def test_what_is_listed_can_be_cut_and_read(desk: OperatorConsole) -> None:
    """Cells between tabs for other commands, JSON in lines for programs."""
    await desk.site.publish()
    rollouts = await desk.run("rollouts")
    assert rollouts.stdout.split("\t")[:3] == ["stable@r1", "Active", "0"]
    hosts = await desk.run("hosts", "--json", "--state", "Pending")
    assert [orjson.loads(line)["hostname"] for line in hosts.stdout.splitlines()] == [
        "web-01",
        "web-02",
        "web-03",
    ]
    deferrals = await desk.run("deferrals")
    assert "wave-promotion" in deferrals.stdout
    events = await desk.run("events", "--json", "stable@r1", "--after", "1")
    rows = [orjson.loads(line) for line in events.stdout.splitlines()]
    assert rows
    assert all(row["seq"] > 1 for row in rows)


async def test_an_explanation_names_every_gate(desk: OperatorConsole) -> None:
    """And says so when there is nothing to explain."""
    await desk.site.publish()
    assert "wave-promotion: " in (await desk.run("explain", "web-02")).stdout
    assert (await desk.run("explain", "nobody")).stdout == "nobody waits in no rollout\n"


async def test_a_key_that_is_not_known_is_told_what_to_add_where(desk: OperatorConsole) -> None:
    """Another name, or another key for it."""
    unknown = await desk.run("rollouts", name="carol", key=STRANGER)
    assert unknown.exit_code == 1
    assert "nixfleet keys show" in unknown.stderr
    assert "--operator carol" in unknown.stderr
    other = await desk.run("rollouts", key=STRANGER)
    assert "the trust file has another key for 'alice'" in other.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "no answer from http://127.0.0.1:9"),
        ("http://fleet.example.org", "plain HTTP to another machine"),
        ("https://fleet.example.org/api", "expected https://HOST:PORT with nothing after it"),
    ],
)
async def test_a_control_plane_that_cannot_be_asked_is_exit_code_2(
    url: str, said: str, desk: OperatorConsole
) -> None:
    """Nobody there, or no way to ask that is safe."""
    failed = await desk.run("rollouts", url=url)
    assert failed.exit_code == 2
    assert said in failed.stderr


def test_without_a_url_or_a_key_the_variable_is_named() -> None:
    """Before anything is looked at."""
    environment = {"NIXFLEET_OPERATOR_KEY": "x", "NIXFLEET_OPERATOR_URL": None}
    failed = CliRunner().invoke(main, ["operator", "rollouts"], env=environment)
    assert failed.exit_code == 2
    assert "expected --url, or NIXFLEET_OPERATOR_URL" in failed.stderr
