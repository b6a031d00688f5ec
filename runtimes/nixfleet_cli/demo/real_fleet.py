"""The story of a real fleet: thirty hosts, of which two are off, one fails and one needs a second attempt.

The rollout finishes all the same, and serves late who comes late. The hosts and their declaration, the story, and how
it must end.
"""

from collections.abc import Mapping
from typing import Final

from nixfleet_cli.demo.closures import NO_ROOM, ShopVersion
from nixfleet_cli.demo.declaration import CHANNEL, DeclaredHost
from nixfleet_cli.demo.expectations import Answers, differences
from nixfleet_cli.demo.releases import Published, release_version
from nixfleet_cli.demo.runtimes import Runtimes
from nixfleet_cli.demo.screen import Screen
from nixfleet_cli.demo.watch import Watch, WentWrong
from nixfleet_cli.demo.world import World
from nixfleet_control_plane.engine.state import State
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.rollout_status import wave_statuses
from nixfleet_state_machine.rollout.state import Standing

HOSTS: Final = tuple(f"web-{number:02}" for number in range(1, 31))
FAILS, TRIES_AGAIN, COMES_LATE, STAYS_OFF = "web-13", "web-09", "web-20", "web-27"
OFF: Final = frozenset({COMES_LATE, STAYS_OFF})

_VERSION = ShopVersion(1)
_SPOILT = ShopVersion(1, health="broken, the disk of this host is full")

_FLEET = f"""\
# The fleet of `nixfleet demo --story real-fleet`.

[fleet]
name = "shop"

[channels.{CHANNEL}]
policy = "finishes"

[policies.finishes]
on_health_failure = "rollback-and-halt"
max_failure_pct = 10

[policies.finishes.deadlines]
ack = {{ minutes = 4, then = "skip" }}

[policies.finishes.retry]
attempts = 2
backoff_seconds = 30

[[policies.finishes.waves]]
selector = "all"
limit = 1
sort = "name"
soak_minutes = 1

[[policies.finishes.waves]]
selector = "all"
limit = "10%"
sort = "name"
soak_minutes = 1

[[policies.finishes.waves]]
rest = true
soak_minutes = 1
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
interval_seconds = 20
timeout_secs = 20
"""


def declaration_of(hosts: Mapping[str, DeclaredHost]) -> str:
    """Return the fleet of `hosts`, by name."""
    parts = [
        _HOST.format(
            hostname=name, channel=CHANNEL, pubkey=host.pubkey.public_key, url=host.health_url
        )
        for name, host in hosts.items()
    ]
    return "".join((_FLEET, *parts))


async def tell(world: World, runtimes: Runtimes, watch: Watch, screen: Screen) -> None:
    """Let the story happen. Raises: WentWrong, as soon as it takes another turn than it should."""
    screen.begin(
        f"Thirty hosts get a release: one, then a tenth, then the rest. {COMES_LATE} and {STAYS_OFF} are off, "
        f"{FAILS} has a full disk, and {TRIES_AGAIN} has no room for its first attempt."
    )
    by_name = {host.hostname: host for host in world.hosts}
    (by_name[TRIES_AGAIN].directory / NO_ROOM).touch()
    published = release_version(world, _VERSION, {FAILS: _SPOILT})
    await runtimes.put_in_force(published.directory)
    await watch.until(lambda state: _has_ended(state, published), "the rollout to end")
    _require(_expected(Standing.AWAY, HostState.PENDING), _found(watch.state, published))

    screen.begin(f"The rollout is complete. {COMES_LATE} is switched on, and is served late.")
    await runtimes.switch_on(COMES_LATE)
    await watch.until(
        lambda state: _state_of(state, published, COMES_LATE) is HostState.CONVERGED,
        f"{COMES_LATE} to converge",
    )
    _require(_expected(Standing.LATE, HostState.CONVERGED), _found(watch.state, published))


def _expected(standing: Standing, state: HostState) -> dict[str, str]:
    """Return how it must stand. standing, state: of the host that comes late."""
    answers = {f"{name}": "Converged, counted, attempt 1" for name in HOSTS}
    answers[FAILS] = "Reverted, counted, attempt 2"
    answers[TRIES_AGAIN] = "Converged, counted, attempt 2"
    answers[STAYS_OFF] = "Pending, away, attempt 1"
    answers[COMES_LATE] = f"{state}, {standing}, attempt 1"
    absent = 2 if standing is Standing.AWAY else 1
    return {
        **answers,
        "the rollout": "Terminal",
        "quarantined closures": "none",
        "wave 0": "done, 1 of 1 converged, 0 failed, 0 absent",
        "wave 1": "done, 3 of 3 converged, 0 failed, 0 absent",
        "wave 2": f"done, 23 of 24 converged, 1 failed, {absent} absent",
    }


def _found(state: State, published: Published) -> dict[str, str]:
    rollout = state.view.rollout(published.rollout_id)
    answers = {
        record.hostname: (
            f"{record.state}, {rollout.standing_of(record.hostname)}, attempt {record.attempt}"
        )
        for record in state.view.hosts_of(published.rollout_id)
    }
    for wave in wave_statuses(state.view, published.rollout_id):
        answers[f"wave {wave.wave}"] = (
            f"{wave.verdict}, {wave.converged} of {wave.total} converged, {wave.failed} failed, "
            f"{wave.absent} absent"
        )
    barred = [closure for closures in state.quarantines.values() for closure in closures]
    answers["the rollout"] = rollout.state.value
    answers["quarantined closures"] = ", ".join(sorted(barred)) or "none"
    return answers


def _has_ended(state: State, published: Published) -> bool:
    record = state.view.rollouts.get(published.rollout_id)
    is_over = record is not None and (record.state.is_halted or not record.state.is_live)
    # The wave is done before the host that is tolerated has made its last attempt.
    return is_over and (
        _state_of(state, published, FAILS) is HostState.REVERTED
        and _attempt_of(state, published, FAILS) == 2  # as the policy says
        and _state_of(state, published, TRIES_AGAIN) is HostState.CONVERGED
    )


def _state_of(state: State, published: Published, hostname: str) -> HostState | None:
    record = state.view.host(published.rollout_id, hostname)
    return None if record is None else record.state


def _attempt_of(state: State, published: Published, hostname: str) -> int:
    record = state.view.host(published.rollout_id, hostname)
    return 0 if record is None else record.attempt


def _require(expected: Answers, found: Answers) -> None:
    different = differences(expected, found)
    if different:
        raise WentWrong(different)
