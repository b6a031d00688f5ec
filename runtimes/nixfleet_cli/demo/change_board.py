"""The story of a change board: people, a calendar and a metric decide when a release goes on, and take one back.

The hosts and their declaration, the judge of the error rate, the story, and how it must end.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from attrs import define

from nixfleet_cli.demo.closures import ShopVersion
from nixfleet_cli.demo.declaration import CHANNEL, DeclaredHost
from nixfleet_cli.demo.expectations import Answers, differences, found_ending
from nixfleet_cli.demo.in_process import InProcess
from nixfleet_cli.demo.releases import Published, release_version
from nixfleet_cli.demo.runtimes import Runtimes
from nixfleet_cli.demo.screen import Screen
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import FIRST_VERSION, World
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.judges.judge import Answer, Judge, Question
from nixfleet_control_plane.messages.inputs import PlaceHold, RelayWarrant
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.guards import APPROVALS
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_runtime.fact_words import short
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.holds.scope import FleetScope
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.state import RolloutState

HOSTS: Final = tuple(f"web-{number:02}" for number in range(1, 7))
FREEZE: Final = timedelta(hours=1)
_CANARY, _EARLY = HOSTS[0], HOSTS[1:3]
_LIMIT = 0.05
_GOOD, _BAD = ShopVersion(1), ShopVersion(2)

_FLEET = f"""\
# The fleet of `nixfleet demo --story change-board`.

[fleet]
name = "shop"

[channels.{CHANNEL}]
policy = "careful"

[policies.careful]
on_health_failure = "rollback-and-halt"
recall = "operator"

[[policies.careful.waves]]
selector = {{{{ hosts = ["{_CANARY}"] }}}}
soak_minutes = 2

[[policies.careful.waves]]
selector = {{{{ hosts = ["{_EARLY[0]}", "{_EARLY[1]}"] }}}}
soak_minutes = 2

[[policies.careful.waves.checks]]
name = "error-rate"
judge = "metrics"
query = "sum(rate(http_errors_total[5m])) / sum(rate(http_requests_total[5m]))"
comparison = "< {_LIMIT}"
passes = 2
interval_seconds = 60

[[policies.careful.waves]]
rest = true
soak_minutes = 2
approvals = {{{{ count = 2, from = ["ada", "bob"] }}}}
"""

_HOST = """
[hosts.{hostname}]
channel = "{channel}"
pubkey = "{pubkey}"

[hosts.{hostname}.health_checks.shop-answers]
kind = "http"
url = "{url}"
expect_status = 200
body_contains = "ready"
interval_seconds = 60
timeout_secs = 60
"""


@define
class ErrorRates:
    """The judge of the story: it knows the error rate of each release."""

    async def ask(self, question: Question) -> Answer:
        is_bad = question.rollout_id.channel_ref.endswith(str(_BAD.number))
        rate = 0.31 if is_bad else 0.002
        if rate < _LIMIT:
            return Answer(Outcome.PASS, f"{rate} {question.check.comparison}", str(rate))
        return Answer(Outcome.FAIL, f"{rate} is not {question.check.comparison}", str(rate))


JUDGES: Final[FrozenMap[str, Judge]] = FrozenMap({"metrics": ErrorRates()})


def declaration_of(hosts: Mapping[str, DeclaredHost]) -> str:
    """Return the fleet of `hosts`, by name."""
    parts = [
        _HOST.format(
            hostname=name, channel=CHANNEL, pubkey=host.pubkey.public_key, url=host.health_url
        )
        for name, host in hosts.items()
    ]
    return "".join((_FLEET.format(), *parts))


async def tell(world: World, runtimes: Runtimes, watch: Watch, screen: Screen) -> None:
    """Let the story happen. Raises: WentWrong, as soon as it takes another turn than it should."""
    assert isinstance(runtimes, InProcess), "the command refuses --processes for this story"
    screen.begin("ada freezes the fleet for an hour. A release waits for that.")
    until = world.clock.now() + FREEZE
    await runtimes.command(PlaceHold(FleetScope(), "ada", "until the sale is over", until))
    good = await _publish(world, runtimes, _GOOD)
    await watch.until(lambda state: _has_begun(state, good), "the freeze to end")
    began = _record(watch.state, good, _CANARY).dispatched_at
    _require({"the canary waits": "True"}, {"the canary waits": str(began and began >= until)})

    screen.begin(
        "The error rate of the canary passes twice. The last wave waits for two approvals."
    )
    await watch.until(
        lambda _: _waits_for_approvals(runtimes, good), "a wave that waits for approvals"
    )
    await runtimes.approve(good.rollout_id, "ada", "the early hosts look good")
    _require({"approved by": "ada"}, {"approved by": _approved_by(runtimes, good)})
    await runtimes.approve(good.rollout_id, "bob", "so they do")
    await watch.until(lambda state: _is(state, good, RolloutState.TERMINAL), "the rollout to end")

    screen.begin(
        "Release 2 passes every probe of its canary, and fails the check of the error rate."
    )
    bad = await _publish(world, runtimes, _BAD)
    await watch.until(
        lambda state: _is(state, bad, RolloutState.FAILED), "the check to stop the wave"
    )

    screen.begin(
        "bob takes release 2 back: an order that he signs, and that the host verifies itself."
    )
    await runtimes.command(_recall(world, bad))
    await watch.until(
        lambda state: _record(state, bad, _CANARY).state is HostState.REVERTED,
        f"{_CANARY} to go back",
    )
    _require(_expected(world, good, bad), await found_ending(world, watch.state))


async def _publish(world: World, runtimes: Runtimes, version: ShopVersion) -> Published:
    published = release_version(world, version)
    await runtimes.put_in_force(published.directory)
    return published


def _recall(world: World, published: Published) -> RelayWarrant:
    now = world.clock.now().replace(microsecond=0)
    warrant = Warrant(
        order_id=secrets.token_hex(16),
        rollout_id=published.rollout_id,
        rule=ClosureRule.PRIOR,
        operator="bob",
        reason="the error rate is too high",
        issued_at=now,
        expires_at=now + FREEZE,
    )
    signed = encode_signed_warrant(sign_warrant(warrant, world.operators["bob"])).decode()
    return RelayWarrant(published.rollout_id, signed, "bob", warrant.reason)


def _has_begun(state: State, published: Published) -> bool:
    record = state.view.host(published.rollout_id, _CANARY) if _is_open(state, published) else None
    return record is not None and record.dispatched_at is not None


def _is_open(state: State, published: Published) -> bool:
    return published.rollout_id in state.view.rollouts


def _is(state: State, published: Published, expected: RolloutState) -> bool:
    return _is_open(state, published) and (
        state.view.rollouts[published.rollout_id].state is expected
    )


def _waits_for_approvals(runtimes: InProcess, published: Published) -> bool:
    guards = runtimes.guards(published.rollout_id)
    return guards is not None and guards.declared.approvals is not None


def _approved_by(runtimes: InProcess, published: Published) -> str:
    guards = runtimes.guards(published.rollout_id)
    statuses = () if guards is None else guards.guarded.guards
    tallies = (each.tally for each in statuses if each.name == APPROVALS)
    return ", ".join(name for tally in tallies if tally is not None for name in tally.passed_by)


def _record(state: State, published: Published, hostname: str) -> HostRolloutState:
    record = state.view.host(published.rollout_id, hostname)
    assert record is not None, hostname
    return record


def _expected(world: World, good: Published, bad: Published) -> dict[str, str]:
    """Return what must be so: release 1 is everywhere, and release 2 was on the canary for a while."""
    answers = {
        f"rollout {good.rollout_id}": "Superseded",
        f"rollout {bad.rollout_id}": "Aborted",
        "quarantined closures": short(bad.closures[_CANARY]),
    }
    for host in world.hosts:
        name, runs = host.hostname, short(good.closures[host.hostname])
        tried = [bad.version, good.version] if name == _CANARY else []
        versions = [FIRST_VERSION, good.version, *tried]
        went_back = f"Reverted, runs {runs}"
        answers |= {
            f"{name} in {good.rollout_id}": f"Converged, runs {runs}",
            f"{name} in {bad.rollout_id}": went_back if tried else "Pending, never asked",
            f"{name} runs": runs,
            f"{name} answers": good.version.health_page.strip(),
            f"{name} switched to": ", ".join(version.name for version in versions),
        }
    return answers


def _require(expected: Answers, found: Answers) -> None:
    different = differences(expected, found)
    if different:
        raise WentWrong(different)
