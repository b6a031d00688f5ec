"""How the demonstration must end, host by host, against how it did. Two lists of the same questions, compared.

What is expected comes from the story alone; what is found, from the log, the hosts' links, their servers and
what their switch scripts left behind. Nothing here waits or changes anything.
"""

from collections.abc import Mapping, Sequence
from urllib.request import ProxyHandler, build_opener

from anyio import to_thread

from nixfleet_cli.demo.closures import SWITCH_HISTORY
from nixfleet_cli.demo.releases import Published
from nixfleet_cli.demo.world import FIRST_VERSION, DemoHost, World
from nixfleet_control_plane.engine.state import State
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.fact_words import short
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import Gate

_ANSWER_SECONDS_MAX = 5.0
# No proxy that the environment names: it must be the host's own server that answers.
_ASKING = build_opener(ProxyHandler({}))

Answers = Mapping[str, str]
"""A statement about the fleet, by the question that it answers."""


def differences(expected: Answers, found: Answers) -> tuple[str, ...]:
    """Return, for each question that is not answered alike, what was expected and what was found."""
    return tuple(
        f"{question}: expected {expected.get(question, 'nothing')}, found {found.get(question, 'nothing')}"
        for question in (*expected, *(found.keys() - expected.keys()))
        if expected.get(question) != found.get(question)
    )


def expected_ending(
    world: World, good: Published, bad: Published, better: Published
) -> dict[str, str]:
    """Return what must be so once `good` converged, `bad` failed on the canary, and `better` converged."""
    canary = world.canary.hostname
    answers = {
        f"rollout {good.rollout_id}": "Superseded",
        f"rollout {bad.rollout_id}": "Superseded",
        f"rollout {better.rollout_id}": "Terminal",
        "quarantined closures": short(bad.closures[canary]),
    }
    for host in world.hosts:
        name = host.hostname
        is_canary = name == canary
        reverted = f"Reverted, runs {short(good.closures[name])}"
        tried = [bad.version, good.version] if is_canary else []
        versions = [FIRST_VERSION, good.version, *tried, better.version]
        answers |= {
            f"{name} in {good.rollout_id}": f"Converged, runs {short(good.closures[name])}",
            f"{name} in {bad.rollout_id}": reverted if is_canary else "Pending, never asked",
            f"{name} in {better.rollout_id}": f"Converged, runs {short(better.closures[name])}",
            f"{name} runs": short(better.closures[name]),
            f"{name} answers": better.version.health_page.strip(),
            f"{name} switched to": ", ".join(version.name for version in versions),
        }
    return answers


async def found_ending(world: World, state: State) -> dict[str, str]:
    """Return how the fleet stands. state: what the control plane's log comes to."""
    answers = {f"rollout {key}": it.state.value for key, it in state.view.rollouts.items()}
    answers["quarantined closures"] = _quarantined(state)
    for host in world.hosts:
        name = host.hostname
        for rollout_id in state.view.rollouts:
            answers[f"{name} in {rollout_id}"] = _stand(state, rollout_id, name)
        answers[f"{name} runs"] = short(await host.activator.current())
        answers[f"{name} answers"] = await to_thread.run_sync(_health_answer, host)
        answers[f"{name} switched to"] = ", ".join(_switches(host))
    return answers


def expected_halt(world: World) -> dict[str, str]:
    """Return what must be so while a release is halted after its canary: that is why all others wait."""
    return {f"{host.hostname} waits for": Gate.ROLLOUT_HALTED for host in world.hosts[1:]}


def found_halt(state: State, bad: Published) -> dict[str, str]:
    """Return who waits for what in the rollout of `bad`."""
    return {
        f"{hostname} waits for": deferral.gate
        for (rollout_id, hostname), deferral in state.deferrals.items()
        if rollout_id == bad.rollout_id
    }


def _stand(state: State, rollout_id: RolloutId, hostname: str) -> str:
    record = state.view.host(rollout_id, hostname)
    return "no record" if record is None else _stand_of(record)


def _stand_of(record: HostRolloutState) -> str:
    if record.last_event_seq == 0 and record.dispatched_at is None:
        return f"{record.state}, never asked"
    return f"{record.state}, runs {short(record.current_closure or 'an unknown closure')}"


def _quarantined(state: State) -> str:
    closures = (closure for channel in state.quarantines.values() for closure in channel)
    return ", ".join(map(short, sorted(closures)))


def _health_answer(host: DemoHost) -> str:
    try:
        with _ASKING.open(host.health_url, timeout=_ANSWER_SECONDS_MAX) as response:
            answer: bytes = response.read(64 * 1024)
    except OSError as error:
        return f"no answer: {error}"
    return answer.decode().strip()


def _switches(host: DemoHost) -> Sequence[str]:
    """The versions that the host's switch scripts ran for, oldest first."""
    closures = (host.directory / SWITCH_HISTORY).read_text().split()
    return [closure.partition("-")[2] for closure in closures]
