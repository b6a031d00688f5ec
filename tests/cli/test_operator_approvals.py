"""`nixfleet operator approve|deny|promote` against a control plane that listens, and what `log verify` says after."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from attrs import evolve
from click.testing import CliRunner, Result

from nixfleet_cli.main import main
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.steering.guards import Approvals, WaveGuards
from nixfleet_proto.trust import Operator, OperatorRole, TrustRoot
from tests.cli.test_operator import OperatorConsole
from tests.engines.releases import Layout
from tests.support.served_control_plane import OPERATOR_KEY, READER_KEY, Site, site_with

pytestmark = pytest.mark.anyio
WHY = ("--reason", "looks good")
OPERATORS = (
    Operator("alice", OPERATOR_KEY.public_key, OperatorRole.OPERATE),
    Operator("bob", READER_KEY.public_key, OperatorRole.READ),
)
GUARDED = WaveGuards(30, Approvals(1, ("alice", "bob")), waivable=("bake",))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[OperatorConsole]:
    """An operator of a fleet whose first wave bakes, and waits for an approval."""
    async with site_with(tmp_path) as site:
        site.service.use_trust(_trust(site))
        layout = Layout(guards=(GUARDED, WaveGuards()))
        await site.publish(layout=layout)
        yield OperatorConsole(tmp_path, site)


def _trust(site: Site) -> TrustRoot:
    """Return the site's trust file: its CI, and both operators."""
    return evolve(site.publisher.trust, operators=OPERATORS)


async def _verified(desk: OperatorConsole) -> Result:
    trust = desk.directory / "all-operators.json"
    trust.write_bytes(encode_trust_root(_trust(desk.site)))
    arguments = ["log", "verify", str(desk.site.database), "--trust", str(trust)]
    return await _invoked(*arguments)


async def _invoked(*arguments: str) -> Result:
    return await anyio.to_thread.run_sync(partial(CliRunner().invoke, main, arguments))


async def test_a_wave_begins_after_an_approval_and_a_promotion(desk: OperatorConsole) -> None:
    """What is missing is listed and explained until then, and the log proves who said so."""
    listed = (await desk.run("rollouts")).stdout
    assert "wave 0: bake until " in listed
    assert "; 0 of 1 approvals" in listed
    explained = (await desk.run("explain", "web-01")).stdout
    assert "wave 0 is guarded: bake until " in explained

    promoted = await desk.run("promote", "stable@r1", *WHY)
    assert (promoted.exit_code, promoted.stdout) == (
        0,
        "your promotion of wave 0 of stable@r1 is taken; it waits for: 0 of 1 approvals, "
        "waits for one of alice, bob\n",
    )
    again = await desk.run("promote", "stable@r1", "--wave", "0", *WHY)
    assert again.stdout == "alice has stated that of wave 0 before: nothing changes\n"
    approved = await desk.run("approve", "stable@r1", *WHY)
    assert (approved.exit_code, approved.stdout) == (0, "wave 0 of stable@r1 has begun\n")

    async with desk.site.agent() as agent:
        assert await agent.next_dispatch(5) is not None
    verified = await _verified(desk)
    assert verified.stdout.endswith("operators' statements are good: 2\n")
    left = desk.directory / "after-she-left.json"
    left.write_bytes(encode_trust_root(evolve(_trust(desk.site), operators=())))
    now, before = ("--trust", str(left)), ("--trust-until", "2126-01-01T00:00:00Z")
    database, then = str(desk.site.database), str(desk.directory / "all-operators.json")
    refused = await _invoked("log", "verify", database, *now)
    assert refused.exit_code == 1
    assert "is of no operator of the trust file" in refused.stderr
    good = await _invoked("log", "verify", database, *now, *before, then)
    assert good.stdout.endswith("operators' statements are good: 2\n")
    alone = await _invoked("log", "verify", database, *before, then)
    assert alone.exit_code == 2
    assert "--trust-until needs --trust" in alone.stderr


async def test_a_denial_halts_the_rollout(desk: OperatorConsole) -> None:
    """And after that nothing is guarded that could be approved."""
    denied = await desk.run("deny", "stable@r1", *WHY)
    assert denied.stdout == "wave 0 of stable@r1 is denied: the rollout halts\n"
    why = "approvals: fail by alice: looks good"
    assert f"wave 0: halted by {why}" in (await desk.run("rollouts")).stdout
    explained = (await desk.run("explain", "web-01")).stdout
    assert f"(it is Failed: wave 0, {why})" in explained
    status = await _invoked("status", str(desk.site.database))
    assert f"wave 0 is guarded: halted by {why}" in status.stdout
    assert (await desk.run("rollouts")).stdout.split("\t")[:2] == ["stable@r1", "Failed"]
    late = await desk.run("approve", "stable@r1", *WHY)
    assert late.exit_code == 1
    assert "expected stable@r1 to go on, found it Failed" in late.stderr


async def test_an_aborted_rollout_takes_no_approval_and_waits_for_none(
    desk: OperatorConsole,
) -> None:
    """The list says nothing of its guards, and who approves is told why."""
    assert (await desk.run("abort", "stable@r1", *WHY)).exit_code == 0
    assert "approvals" not in (await desk.run("rollouts")).stdout
    status = await _invoked("status", str(desk.site.database))
    assert "is guarded" not in status.stdout
    late = await desk.run("approve", "stable@r1", *WHY)
    assert late.exit_code == 1
    assert "expected stable@r1 to go on, found it Aborted: release another ref" in late.stderr


async def test_an_approval_of_a_manifest_that_was_read_is_for_that_one_alone(
    desk: OperatorConsole,
) -> None:
    """--manifest says what was read: another one is refused by the control plane."""
    file = desk.directory / "manifest.json"
    file.write_bytes(b'{"a": "manifest of another release"}')
    refused = await desk.run("approve", "stable@r1", "--manifest", str(file), *WHY)
    assert refused.exit_code == 1
    assert "expected a statement on manifest " in refused.stderr


async def test_who_may_only_read_may_not_approve(desk: OperatorConsole) -> None:
    """Exit code 1, with the role that is missing."""
    refused = await desk.run("approve", "stable@r1", *WHY, name="bob", key=READER_KEY)
    assert refused.exit_code == 1
    assert "role" in refused.stderr


async def test_a_misspelt_rollout_is_refused_with_the_one_that_was_meant(
    desk: OperatorConsole,
) -> None:
    """Nothing is signed."""
    refused = await desk.run("approve", "stabel@r1", *WHY)
    assert refused.exit_code == 1
    assert "stable@r1" in refused.stderr
