"""`nixfleet operator` against a control plane that listens: commands, lists, and refusals in words."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio.to_thread
import httpx2
import orjson
import pytest
from attrs import Factory, define, frozen
from click.testing import CliRunner, Result

from nixfleet_cli.commands.operator import whole_name
from nixfleet_cli.main import main
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.operator_client import RESTART_SECONDS_MAX, Address, OperatorClient
from nixfleet_control_plane.messages.inputs import OperatorCommand
from nixfleet_control_plane.messages.log_entry import Commanded
from nixfleet_control_plane.store.queries import log_entries, open_for_reading
from nixfleet_proto.agent_event import (
    ActivationFailed,
    ActivationStarted,
    DispatchAck,
    Postponed,
)
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Recall, RolloutPolicy
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import verify_warrant
from nixfleet_proto.steering.warrant import ClosureRule
from nixfleet_proto.wire import AgentEventEnvelope
from nixfleet_runtime.http.listings import ListedHost, ListedRollout
from nixfleet_runtime.http.problem import TYPE_PREFIX, HttpProblem, encode_problem
from nixfleet_runtime.transport import ActingRefusal, Heartbeat
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.releases import Layout, rollout_id_of
from tests.support.served_control_plane import (
    CLOCK,
    OPERATOR_KEY,
    OPERATORS_TRUST,
    READER_KEY,
    STRANGER,
    Site,
    site_with,
)

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
        (
            ("pause", "edge", *WHY),
            "expected a channel, a rollout or a host (host:NAME), found 'edge'",
        ),
        (("resume", "stable", *WHY), "stable is not paused"),
        (("clear", "stable@r1", *WHY), "to be Reverted or Failed, found Active"),
        (("clear", "stable@r9", "--excuse", "web-01", *WHY), "no rollout stable@r9 exists"),
        (("retire", "stable", "a-closure", *WHY), "a-closure is not quarantined on stable"),
    ):
        refused = await desk.run(*arguments)
        assert refused.exit_code == 1, arguments
        assert said in refused.stderr, arguments
    assert desk.commanded() == []


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("pause", "stabel"), "stable"),
        (("pause", "stable@r11"), "stable@r1"),
        (("hold", "stable@r9"), None),
        (("hold", "stabel@r1"), "stable@r1"),
        (("release", "stable@r"), "stable@r1"),
        (("freeze", "stabl", "--until", "3d"), "stable"),
    ],
)
async def test_the_scope_that_was_meant_never_holds_more(
    desk: OperatorConsole, arguments: tuple[str, ...], meant: str | None
) -> None:
    """Who misspells a rollout does not mean its channel."""
    await desk.site.publish()
    refused = await desk.run(*arguments, *WHY)
    assert refused.exit_code == 1
    found = refused.stderr.rstrip().rpartition("did you mean ")[2]
    assert found == (f"{meant}?" if meant else refused.stderr.rstrip())


async def test_a_hold_with_an_end_is_listed_and_lifted_by_name(desk: OperatorConsole) -> None:
    """Scope, source, since and until are shown; what another operator holds is released by that name."""
    await desk.site.publish()
    held = await desk.run("hold", "wave:0:stable@r1", "--until", "3d", *WHY)
    assert held.exit_code == 0
    assert held.stdout.startswith("wave:0:stable@r1 is held until ")
    async with desk.site.agent() as agent:
        assert await agent.next_dispatch(0) is None
        listed = (await desk.run("holds")).stdout.rstrip("\n").split("\t")
        assert (listed[0], listed[1], listed[4]) == (
            "wave:0:stable@r1",
            "operator:alice",
            "maintenance",
        )
        assert all(each.endswith("Z") for each in listed[2:4])
        explained = (await desk.run("explain", "web-01")).stdout
        assert "an operator holds wave 0 of stable@r1 until " in explained
        released = await desk.run("release", "wave:0:stable@r1", "--of", "alice", *WHY)
        assert released.exit_code == 0
        assert await agent.next_dispatch(5) is not None
    assert (await desk.run("holds")).stdout == ""


async def test_a_freeze_of_everything_needs_an_end(desk: OperatorConsole) -> None:
    """Without --until, with a channel and --all, or with a time that is none: usage errors, and nothing is held."""
    await desk.site.publish()
    until = ("--until", "2099-01-01T00:00Z")
    for arguments in (
        ("freeze", "--all", *WHY),
        ("freeze", "stable", "--all", *until, *WHY),
        ("freeze", *until, *WHY),
        ("freeze", "stable", "--until", "tomorrow", *WHY),
        ("hold", "stable", "--until", "2099-01-01T00:00", *WHY),
        ("hold", "wave:x:stable@r1", *WHY),
    ):
        assert (await desk.run(*arguments)).exit_code == 2, arguments
    assert desk.commanded() == []
    frozen = await desk.run("freeze", "--all", *until, *WHY)
    assert frozen.stdout == "fleet:all is held until 2099-01-01 00:00:00Z\n"
    twice = await desk.run("release", "edge", *WHY)
    assert twice.exit_code == 1
    assert "alice holds nothing on edge" in twice.stderr


async def test_an_abort_ends_a_rollout_and_is_in_the_log_by_name(desk: OperatorConsole) -> None:
    """The dispatch that waits for its host is withdrawn, and no clearance takes that back."""
    await desk.site.publish()
    aborted = await desk.run("abort", "stable@r1", *WHY)
    assert (aborted.exit_code, aborted.stdout) == (0, "stable@r1 is aborted\n")
    async with desk.site.agent() as agent:
        assert await agent.next_dispatch(0) is None
    assert (await desk.run("rollouts")).stdout.split("\t")[:2] == ["stable@r1", "Aborted"]
    assert "was aborted; release another ref" in (await desk.run("explain", "web-01")).stdout
    cleared = await desk.run("clear", "stable@r1", *WHY)
    assert cleared.exit_code == 1
    assert "no clearance takes back" in cleared.stderr
    assert [(command.operator, command.reason) for command in desk.commanded()] == [
        ("alice", "maintenance")
    ]


async def test_a_recall_that_is_not_granted_is_refused_with_the_way_on(
    desk: OperatorConsole,
) -> None:
    """The order is signed here and checked there; nothing is relayed or ended."""
    await desk.site.publish()
    refused = await desk.run("recall", "stable@r1", *WHY)
    assert refused.exit_code == 1
    assert 'says recall = "never"' in " ".join(refused.stderr.split())
    assert desk.commanded() == []


async def test_a_recall_is_relayed_as_it_was_signed_and_ends_the_rollout(
    desk: OperatorConsole,
) -> None:
    """An agent finds it in the answer to its heartbeat, and can verify it."""
    layout = Layout(policy=RolloutPolicy(recall=Recall.OPERATOR))
    release = desk.site.publisher.release(layout, "r1", CLOCK.now())
    await desk.site.service.publish(release)
    rollout_id = rollout_id_of(release)
    ack = DispatchAck("old", CLOCK.now(), seq=1)
    async with desk.site.agent() as agent:
        await agent.post_events((AgentEventEnvelope("web-01", rollout_id, ack),))
        done = await desk.run("recall", rollout_id, "web-01", *WHY, "--expires-minutes", "4")
        assert (done.exit_code, done.stderr) == (0, "")
        again = await desk.run("recall", rollout_id, "web-01", *WHY, "--expires-minutes", "3")
        assert again.exit_code == 1
        assert "the order expires after 3 min, and a host that is silent holds those of " in (
            " ".join(again.stderr.split())
        )
        assert "nothing to do: order " in again.stderr
        reply = await agent.heartbeat(Heartbeat("web-01", "old", FrozenMap({str(rollout_id): 1})))
    (signed,) = reply.warrants
    verified = verify_warrant(signed, OPERATORS_TRUST, CLOCK.now())
    assert verified.warrant.hosts == ("web-01",)
    assert (await desk.run("rollouts")).stdout.split("\t")[1] == "Aborted"
    (line,) = (await desk.run("warrants")).stdout.splitlines()
    cells = line.split("\t")
    assert (cells[0], cells[1], cells[2]) == (rollout_id, signed.warrant.order_id, "alice")
    assert cells[4:] == ["1 named", "1", "0", "0", "maintenance"]
    value = orjson.loads((await desk.run("warrants", "--json")).stdout)
    assert (value["hosts"], value["toGo"]) == (["web-01"], 1)
    explained = (await desk.run("explain", "web-01")).stdout
    assert "  recalled by alice: maintenance; it is told with each heartbeat, until " in explained
    assert "retry" not in explained
    strange = await desk.run("recall", "stable@", *WHY)
    assert strange.exit_code == 2


async def test_an_override_is_relayed_to_a_host_whose_lock_says_not_now(
    desk: OperatorConsole,
) -> None:
    """An agent finds it in the answer to its heartbeat; the hold shows why, and the rollout goes on."""
    release = desk.site.publisher.release(Layout(), "r1", CLOCK.now())
    await desk.site.service.publish(release)
    rollout_id = rollout_id_of(release)
    now = CLOCK.now()
    locked = Postponed(now, "a call\x1b[31m", now + timedelta(minutes=30), seq=1)
    async with desk.site.agent() as agent:
        await agent.post_events((AgentEventEnvelope("web-01", rollout_id, locked),))
        holds = await desk.run("holds")
        done = await desk.run("override", rollout_id, "web-01", *WHY)
        assert done.exit_code == 0, done.stderr
        reply = await agent.heartbeat(Heartbeat("web-01", "old", FrozenMap({str(rollout_id): 1})))
    assert "host:web-01\tdevice" in holds.stdout
    assert "a call" in holds.stdout
    assert "\x1b" not in holds.stdout
    (signed,) = reply.warrants
    warrant = verify_warrant(signed, OPERATORS_TRUST, CLOCK.now()).warrant
    assert (warrant.rule, warrant.hosts) == (ClosureRule.TARGET, ("web-01",))
    assert (await desk.run("rollouts")).stdout.split("\t")[1] == "Active"
    everybody = await desk.run("override", rollout_id, *WHY)
    assert everybody.exit_code == 2


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
    """A host of no rollout is refused, with the one that was probably meant."""
    await desk.site.publish()
    assert "wave-promotion: " in (await desk.run("explain", "web-02")).stdout
    unknown = await desk.run("explain", "we-02")
    assert unknown.exit_code == 1
    assert 'found "we-02"; did you mean web-02?' in unknown.stderr


async def test_a_host_is_shown_with_its_clock_and_when_it_was_heard(desk: OperatorConsole) -> None:
    """From its signed requests; a fact that cannot be true yet is shown beside it."""
    rollout_id = await desk.site.publish()
    silent = await desk.run("explain", "web-01")
    assert "web-01 was not heard since the control plane started" in silent.stdout
    ahead = DispatchAck("old", CLOCK.now() + timedelta(minutes=5), seq=1)
    async with desk.site.agent() as agent:
        await agent.post_events((AgentEventEnvelope("web-01", rollout_id, ahead),))
    shown = await desk.run("explain", "web-01")
    assert "its clock" in shown.stdout
    assert "event 1 is not taken yet: DispatchAck is dated" in shown.stdout
    listed = (await desk.run("hosts", "--json")).stdout.splitlines()
    heard = {host["hostname"]: host.get("lastHeardAt") for host in map(orjson.loads, listed)}
    assert heard["web-01"] is not None
    assert heard["web-02"] is None


async def test_a_key_that_is_not_known_is_told_what_to_add_where(desk: OperatorConsole) -> None:
    """Another name, or another key for it."""
    unknown = await desk.run("rollouts", name="carol", key=STRANGER)
    assert unknown.exit_code == 1
    assert "nixfleet keys show" in unknown.stderr
    assert "--operator carol" in unknown.stderr
    other = await desk.run("rollouts", key=STRANGER)
    assert "the trust file has another key than" in other.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "http://127.0.0.1:9",
            "Error: cannot connect to http://127.0.0.1:9: nothing listens there",
        ),
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


async def test_what_a_host_named_its_closure_is_shown_as_it_is(desk: OperatorConsole) -> None:
    """Markup and line ends in a closure's name neither break the list nor forge a row of it."""
    hostile = "[/bold]x\n999\t\x1b[31m\u202e-shop"
    release = desk.site.publisher.release(Layout(closure=hostile), "r1", CLOCK.now())
    await desk.site.service.publish(release)
    rollout_id = rollout_id_of(release)
    envelope = AgentEventEnvelope("web-01", rollout_id, DispatchAck(hostile, CLOCK.now(), 1))
    async with desk.site.agent() as agent:
        await agent.post_events((envelope,))
    for arguments in (("hosts",), ("events", rollout_id), ("hosts", "--json")):
        shown = await desk.run(*arguments)
        assert shown.exit_code == 0
        lines = shown.stdout.splitlines()
        assert all(line.replace("\t", "").isprintable() for line in lines)
        assert not any(line.startswith("999") for line in lines)
        assert "[/bold]x" in shown.stdout


@pytest.mark.parametrize("scope", ["stable@", "Stable@r1", "stable@r1@r2"])
async def test_a_scope_that_is_no_rollout_id_is_refused_before_anything_is_asked(
    scope: str, desk: OperatorConsole
) -> None:
    """A scope with an @ names a rollout; one that cannot is a usage error that says what a rollout id is."""
    refused = await desk.run("pause", scope, *WHY)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"'{scope}' is not a rollout id" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("hosts", "--state", "Soakin"), 2, "did you mean Soaking?"),
        (("hosts", "--state", "Broken"), 2, "no such state: expected one of Activating, Converged"),
        (("hosts", "--rollout", "stabel@r1"), 1, "did you mean stable@r1?"),
        (("events", "stable@r"), 1, "did you mean stable@r1?"),
        (("pause", "stabel", *WHY), 1, "found 'stabel'; did you mean stable?"),
        (("clear", "stabel@r1", *WHY), 1, "did you mean stable@r1?"),
        (("abort", "stabel@r1", *WHY), 1, "did you mean stable@r1?"),
        (("retire", "stabel", "x", *WHY), 1, "did you mean stable?"),
        (("explain", "web02"), 1, "did you mean web-02?"),
    ],
)
async def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(
    arguments: tuple[str, ...], code: int, said: str, desk: OperatorConsole
) -> None:
    """Hosts, rollouts, channels and states are known to the control plane, so a near one is named."""
    await desk.site.publish()
    refused = await desk.run(*arguments)
    assert (refused.exit_code, refused.stdout) == (code, "")
    assert said in " ".join(refused.stderr.split())


def _listed(hostname: str, rollout: str, state: HostState, target: str) -> ListedHost:
    return ListedHost(hostname, RolloutId(rollout), state, target, 1)


ROLLOUTS = [
    ListedRollout(RolloutId(f"{channel}@r1"), channel, RolloutState.REVERTED, 0, CLOCK.now(), ())
    for channel in ("stable", "edge")
]
HOSTS = [
    _listed("web-01", "stable@r1", HostState.REVERTED, "0123456789abcdef-shop"),
    _listed("web-02", "stable@r1", HostState.CONVERGED, "0123456789fedcba-shop"),
    _listed("web-03", "stable@r1", HostState.CONVERGED, "9999999999fedcba-mill"),
    _listed("web-04", "edge@r1", HostState.REVERTED, "7777777777777777-shop"),
]


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("99999999-mill", "9999999999fedcba-mill"),
        ("9999999999fedcba-mill", "9999999999fedcba-mill"),
        ("web-01", "0123456789abcdef-shop"),
        ("web-02", "web-02"),
        ("77777777-shop", "77777777-shop"),
    ],
)
def test_a_short_name_stands_for_the_one_closure_of_the_channel_that_it_fits(
    name: str, whole: str
) -> None:
    """A closure as lists show it, or a host that failed with it; what fits none is sent as it is."""
    assert whole_name("stable", name, ROLLOUTS, HOSTS) == whole


def test_a_short_name_that_fits_two_closures_is_refused_with_both() -> None:
    """Nothing is guessed."""
    with pytest.raises(Findings) as refused:
        whole_name("stable", "01234567-shop", ROLLOUTS, HOSTS)
    assert refused.value.lines[1:] == ("  0123456789abcdef-shop", "  0123456789fedcba-shop")


@define
class Restarting:
    """A control plane that refuses what was signed before its start, so many times."""

    refusals: int
    requests: int = 0
    slept: list[float] = Factory(list)

    async def send(self, method: str, path: str, body: bytes) -> httpx2.Response:
        self.requests += 1
        if self.requests > self.refusals:
            return httpx2.Response(204)
        problem = HttpProblem(f"{TYPE_PREFIX}signed-before-start", "too early", 401)
        return httpx2.Response(401, content=encode_problem(problem))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_a_command_just_after_a_restart_waits_until_it_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is signed again every second, and says once what it waits for."""
    restarting = Restarting(3)
    address = Address("https://fleet", "ada", Path("ada.key"))
    await OperatorClient(restarting, address, restarting.sleep).command("/v1/x", b"{}")
    assert (restarting.requests, len(restarting.slept)) == (4, 3)
    assert capsys.readouterr().err.count("has just started") == 1


async def test_a_control_plane_that_keeps_refusing_is_told_as_it_is() -> None:
    """The waiting has an end, and the refusal is shown."""
    restarting = Restarting(RESTART_SECONDS_MAX + 5)
    address = Address("https://fleet", "ada", Path("ada.key"))
    with pytest.raises(Findings, match="too early"):
        await OperatorClient(restarting, address, restarting.sleep).command("/v1/x", b"{}")
    assert len(restarting.slept) == RESTART_SECONDS_MAX


def test_without_a_url_or_a_key_the_variable_is_named() -> None:
    """Before anything is looked at."""
    environment = {"NIXFLEET_OPERATOR_KEY": "x", "NIXFLEET_OPERATOR_URL": None}
    failed = CliRunner().invoke(main, ["operator", "rollouts"], env=environment)
    assert failed.exit_code == 2
    assert "Missing option '--url' (env var: 'NIXFLEET_OPERATOR_URL')." in failed.stderr


async def test_a_host_that_refuses_to_act_is_shown_as_such(desk: OperatorConsole) -> None:
    """In the explanation and beside the host: a host that no gate holds may still not move."""
    rollout_id = await desk.site.publish()
    refusal = ActingRefusal(rollout_id, "the manifest is \x1b[2Jtoo old", CLOCK.now())
    async with desk.site.agent() as agent:
        await agent.heartbeat(Heartbeat("web-01", "old", FrozenMap(), (refusal,)))

    explained = await desk.run("explain", "web-01")
    hosts = await desk.run("hosts", "--json")

    assert "stable@r1: web-01 does not act since " in explained.stdout
    assert "the manifest is \\x1b[2Jtoo old" in explained.stdout
    listed = {it["hostname"]: it for it in map(orjson.loads, hosts.stdout.splitlines())}
    assert listed["web-01"]["refusal"] == refusal.reason
    assert "refusal" not in listed["web-02"]


async def test_what_is_in_force_is_shown_with_when_it_is_stale(desk: OperatorConsole) -> None:
    """A fresh control plane has nothing in force."""
    assert (await desk.run("releases")).stdout == "nothing is in force\n"
    await desk.site.publish()
    desk.site.service.notices.artefact_refused("revocations.json", None, "too old", CLOCK.now())

    shown = (await desk.run("releases")).stdout.splitlines()

    assert shown[0].startswith("stable: stable@r1, signed ")
    assert ", stale at " in shown[0]
    assert shown[1].endswith(": revocations.json: too old")


async def test_who_knocks_is_listed_with_who_is_in(desk: OperatorConsole) -> None:
    """With the reason, the number of times, and the fingerprint to mint a token for."""
    note = desk.site.service.notices.enrollment_refused
    for _ in range(2):
        note("web-09", "abcd", "nonce-used", "the nonce was used", CLOCK.now())

    (line,) = (await desk.run("enrollments")).stdout.splitlines()
    value = orjson.loads((await desk.run("enrollments", "--json")).stdout)

    host, standing, *_, times, key, reason = line.split("\t")
    assert (host, standing, times, key) == ("web-09", "knocking", "2", "abcd")
    assert reason == value["reason"] == "the nonce was used"


async def test_what_is_refused_is_listed(desk: OperatorConsole) -> None:
    await desk.site.publish()
    desk.site.service.notices.artefact_refused("revocations.json", None, "too old", CLOCK.now())

    (line,) = (await desk.run("refused")).stdout.splitlines()
    value = orjson.loads((await desk.run("refused", "--json")).stdout)

    assert line.startswith("artefact\trevocations.json\t")
    assert (value["kind"], value["reason"]) == ("artefact", "too old")
    assert (await desk.run("quarantines")).stdout == ""


async def test_the_overview_says_how_it_stands_and_what_to_do(desk: OperatorConsole) -> None:
    """In sentences; a channel stands for its current rollout."""
    rollout_id = await desk.site.publish()
    await desk.run("pause", "stable", *WHY)

    whole = (await desk.run("overview")).stdout
    of_channel = (await desk.run("overview", "stable")).stdout.splitlines()
    value = orjson.loads((await desk.run("overview", str(rollout_id), "--json")).stdout)

    assert of_channel[0] == value["rollouts"][0]["headline"]
    assert of_channel[0].startswith("stable@r1 is held: 0 of 3 hosts have converged")
    assert "`nixfleet operator release stable --of alice`" in whole
    assert "wave 1, waits for wave 0: 2 Pending; 0 failed of 0 allowed; soak" in whole
    assert ". since" not in whole
    assert ".," not in whole
    refused = await desk.run("overview", "stabel@r1")
    assert (refused.exit_code, "stable@r1" in refused.stderr) == (1, True)


async def test_a_host_is_shown_whole(desk: OperatorConsole) -> None:
    """What a host wrote is text, whatever is in it."""
    await desk.site.publish()
    now = CLOCK.now()
    facts = (
        DispatchAck("old", now, 1),
        ActivationStarted(now, "directory", 2),
        ActivationFailed(1, "no space\n\x1b[31mred", now, 3),
    )
    rollout_id = RolloutId("stable@r1")
    envelopes = tuple(AgentEventEnvelope("web-01", rollout_id, fact) for fact in facts)
    assert (await desk.site.service.take_events("web-01", envelopes)).accepted == len(facts)

    failed = (await desk.run("host", "web-01")).stdout
    waiting = (await desk.run("host", "web-02")).stdout

    assert "it failed: the switch failed with exit code 1\n    no space\n" in failed
    assert "\x1b" not in failed
    assert "  switch began\n" in failed
    assert "soak ends" not in failed
    assert "rollout-halted: " in waiting
    assert "An operator clears the rollout, or a repaired closure is released." in waiting
    unknown = await desk.run("host", "wev-02")
    assert (unknown.exit_code, "did you mean" in unknown.stderr) == (1, True)


async def test_a_channel_stands_for_its_current_rollout(desk: OperatorConsole) -> None:
    await desk.site.publish()

    done = await desk.run("excuse", "stable", "web-03", *WHY)

    assert (done.exit_code, done.stdout) == (0, "stable@r1: web-03 excused\n")
    assert (await desk.run("events", "stable")).stdout == (
        await desk.run("events", "stable@r1")
    ).stdout
    aborted = await desk.run("abort", "stable", *WHY)
    assert aborted.exit_code == 1


async def test_the_log_is_told_over_the_network(desk: OperatorConsole) -> None:
    """The last rows, in words; chosen by rollout; and as objects."""
    rollout_id = await desk.site.publish()
    lines = (await desk.run("log")).stdout.splitlines()
    few = (await desk.run("log", "--last", "1")).stdout.splitlines()
    of_it = (await desk.run("log", "--rollout", str(rollout_id), "--kind", "plan_action")).stdout
    value = orjson.loads((await desk.run("log", "--last", "1", "--json")).stdout)

    assert lines[-1:] == few
    row, _, rollout, who, what = few[0].split("\t")
    assert (int(row), rollout, who, what) == (
        value["seq"],
        value.get("rolloutId", ""),
        value["actor"],
        value["text"],
    )
    assert "\tplanner\t" in of_it
    assert "web-01" in of_it
    told = (await desk.run("events", str(rollout_id))).stdout
    assert of_it.splitlines()[0] in told.splitlines()


async def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(
    desk: OperatorConsole,
) -> None:
    """Nothing is printed as if the log were empty."""
    refused = await desk.run("log", "--kind", "gossip")

    assert refused.exit_code == 1
    assert "expected one of agent_events" in refused.stderr
