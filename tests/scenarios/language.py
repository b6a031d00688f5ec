"""The commands of scenario files, each read into a step that is done to an in-memory fleet. README.md lists them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

from attrs import evolve, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, RolloutPolicy
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.host_status import HostInRollout, WaitsFor
from nixfleet_state_machine.rollout.state import RolloutState
from nixfleet_testing.fleet_in_memory import (
    Boundary,
    Channel,
    ClosureBehaviour,
    Direction,
    Health,
    InMemoryFleet,
    RollbackResult,
    SwitchResult,
)
from tests.scenarios.words import Place, ScenarioError, Words

Step: TypeAlias = Callable[[InMemoryFleet], Iterable[str]]
"""Does one command, and returns the lines that it prints beside the trace."""


@frozen
class Command:
    """One command and where it stands."""

    place: Place
    text: str
    step: Step


@frozen
class FleetLine:
    """The first command of every file: which fleet."""

    place: Place
    channels: tuple[Channel, ...]
    offline: tuple[str, ...]


def read_command(place: Place, text: str) -> Command:
    """Return the command that `text` is. Raises: ScenarioError."""
    words = Words(place, text)
    name = words.one_of("a command", _COMMANDS)
    step = _COMMANDS[name](words)
    words.end()
    return Command(place, text, step)


def read_fleet(place: Place, text: str) -> FleetLine:
    """Return the fleet that `text` declares, channels separated by `and`. Raises: ScenarioError, FleetError."""
    words = Words(place, text)
    if not words.optional("fleet"):
        raise words.error("the command fleet first", words.rest() or None)
    channels: list[Channel] = []
    offline: list[str] = []
    while not channels or words.optional("and"):
        channels.append(_read_channel(words, offline))
    words.end()
    return FleetLine(place, tuple(channels), tuple(offline))


_OPTIONS = ("channel", "hosts", "waves", "soak", "budget", "edge", "policy", "ack", "after", "off")


def _read_channel(words: Words, offline: list[str]) -> Channel:
    name, prefix, hosts, waves, after = "stable", "web", 1, [1], list[str]()
    soak, budget, policy = 3, None, OnHealthFailure.ROLLBACK_AND_HALT
    edges: list[tuple[str, str]] = []
    terms = RolloutPolicy()
    ends = (*_OPTIONS, "and")
    while words and words.peek() != "and":
        match words.one_of("an option of the fleet", _OPTIONS):
            case "channel":
                name = prefix = words.word("the channel's name")
            case "hosts":
                hosts = words.number("the number of hosts")
                waves = [hosts]
            case "waves":
                waves = words.numbers("the size of each wave")
            case "soak":
                soak = words.seconds() // 60
            case "budget":
                budget = words.number("the number of hosts that may be in flight")
            case "edge":
                edges.append((words.word("the first host"), words.word("the host that waits")))
            case "policy":
                policy = OnHealthFailure(words.one_of("a policy", list(OnHealthFailure)))
            case "ack":
                minutes, then = (
                    words.seconds() // 60,
                    words.one_of("what follows", list(AtDeadline)),
                )
                terms = RolloutPolicy(deadlines=Deadlines(ack=Deadline(minutes, AtDeadline(then))))
            case "after":
                after += words.names_until(ends, "a channel")
            case _:
                offline += words.names_until(ends, "a host")
    return Channel(
        name,
        hosts,
        waves,
        soak_minutes=soak,
        budget=budget,
        edges=edges,
        on_health_failure=policy,
        after=after,
        prefix=prefix,
        policy=terms,
    )


# Releases.

BEHAVIOURS: Mapping[str, Callable[[ClosureBehaviour], ClosureBehaviour]] = {
    "broken": lambda it: evolve(it, health=Health.BAD),
    "flapping": lambda it: evolve(it, health=Health.FLAPPING),
    "control-fails": lambda it: evolve(it, health=Health.CONTROL_FAILS),
    "observed-broken": lambda it: evolve(it, health=Health.OBSERVED_FAILS),
    "unreadable-checks": lambda it: evolve(it, health=Health.UNREADABLE),
    "silent": lambda it: evolve(it, health=Health.SILENT),
    "needs-reboot": lambda it: evolve(it, switch=SwitchResult.WAITS_FOR_REBOOT),
    "switch-fails": lambda it: evolve(it, switch=SwitchResult.FAILS_BEFORE_ANY_CHANGE),
    "switch-fails-half-way": lambda it: evolve(it, switch=SwitchResult.FAILS_HALF_WAY),
    "rollback-fails": lambda it: evolve(it, rollback=RollbackResult.FAILS),
}
"""What a release can do on a host, by the word that says so."""


def _publish(words: Words) -> Step:
    ref = words.word("a ref")
    channel: str | None = None
    closure = ""
    behaviours: dict[str, ClosureBehaviour] = {}
    options = ("on", "closure", "broken-after", *BEHAVIOURS)
    while words:
        option = words.one_of("an option of publish", options)
        if option == "on":
            channel = words.word("a channel")
        elif option == "closure":
            closure = words.word("a closure")
        else:
            change = BEHAVIOURS[option] if option in BEHAVIOURS else _late(words.seconds())
            for host in words.names_until(options, "a host"):
                behaviours[host] = change(behaviours.get(host, ClosureBehaviour()))

    def step(fleet: InMemoryFleet) -> Iterable[str]:
        fleet.publish(ref, channel=channel, closure=closure, behaviour=behaviours)
        return ()

    return step


def _late(seconds: int) -> Callable[[ClosureBehaviour], ClosureBehaviour]:
    return lambda it: evolve(it, health=Health.BAD_LATER, late_seconds=seconds)


# Time and operators.


def _pass(words: Words) -> Step:
    seconds = words.seconds()
    return _quiet(lambda fleet: fleet.pass_time(seconds=seconds))


def _pause(words: Words) -> Step:
    scope = words.word("a channel or a rollout")
    return _quiet(lambda fleet: fleet.pause(scope))


def _resume(words: Words) -> Step:
    scope = words.word("a channel or a rollout")
    return _quiet(lambda fleet: fleet.resume(scope))


def _clear(words: Words) -> Step:
    rollout = words.word("a rollout")
    excused = words.names_until((), "a host") if words.optional("excuse") else []
    return _quiet(lambda fleet: fleet.clear(rollout, excuse=excused))


def _retire(words: Words) -> Step:
    closure = words.word("a closure")
    channel = words.word("a channel") if words.optional("on") else None
    return _quiet(lambda fleet: fleet.retire_quarantine(closure, channel=channel))


# Machines and processes.

_DIRECTIONS = {
    "both": Direction.BOTH,
    "up": Direction.TO_CONTROL_PLANE,
    "down": Direction.FROM_CONTROL_PLANE,
}
_BOUNDARIES = {boundary.name.lower().replace("_", "-"): boundary for boundary in Boundary}


def _off(words: Words) -> Step:
    node = words.word("a host or control-plane")
    return _quiet(lambda fleet: fleet.switch_off(node))


def _on(words: Words) -> Step:
    node = words.word("a host or control-plane")
    return _quiet(lambda fleet: fleet.switch_on(node))


def _restart(words: Words) -> Step:
    node = words.word("a host or control-plane")
    return _quiet(lambda fleet: fleet.restart(node))


def _reboot(words: Words) -> Step:
    host = words.word("a host")
    return _quiet(lambda fleet: fleet.reboot(host))


def _crash(words: Words) -> Step:
    node = words.word("a host or control-plane")
    boundary = _BOUNDARIES[words.one_of("where it dies", _BOUNDARIES)]
    back = words.seconds() if words.optional("back") else 60
    return _quiet(lambda fleet: fleet.crash(node, boundary, back_after_seconds=back))


def _cut(words: Words) -> Step:
    host = words.word("a host")
    direction = _DIRECTIONS[words.one_of("a direction", _DIRECTIONS)]
    minutes = words.seconds() / 60
    return _quiet(lambda fleet: fleet.cut_off(host, minutes=minutes, direction=direction))


def _lose_database(words: Words) -> Step:
    back = words.seconds() if words.optional("back") else 60
    return _quiet(lambda fleet: fleet.lose_database(back_after_seconds=back))


# What is looked at.


def _show(_: Words) -> Step:
    return lambda fleet: str(fleet).splitlines()


def _explain(words: Words) -> Step:
    host = words.word("a host")

    def step(fleet: InMemoryFleet) -> Iterable[str]:
        found = fleet.status_of(host)
        for status in () if found is None else found.rollouts:
            if status.waits_for not in (WaitsFor.GATES, WaitsFor.DISPATCH):
                counts = f"{host} in {status.rollout_id} is {status.state} and {status.standing}"
                yield f"{counts}, waits for {status.waits_for}{_ends(status, fleet.now)}"
        for rollout, blocks in fleet.explain(host).items():
            for block in blocks:
                detail = f" ({block.detail})" if block.detail else ""
                yield f"{host} in {rollout} waits, {block.gate}: {block.reason}{detail}"

    return step


def _ends(status: HostInRollout, now: datetime) -> str:
    if status.is_overdue:
        return ", overdue"
    return "" if status.until is None else f", for {status.until - now} at least"


def _expect(words: Words) -> Step:
    subject = words.word("a host or a rollout")
    if "@" in subject:
        state = words.one_of("a rollout state", list(RolloutState))
        return _checked(words.place, subject, state, lambda fleet: fleet.rollouts[subject].state)
    what = words.one_of("a host state, runs or waits", (*HostState, "runs", "waits"))
    if what == "runs":
        closure = words.word("a closure")
        return _checked(words.place, subject, closure, lambda fleet: fleet.hosts[subject].running)
    if what == "waits":
        gate = words.one_of("a gate", list(Gate))
        return _checked(words.place, subject, gate, lambda fleet: _gate(fleet, subject))
    return _checked(words.place, subject, what, lambda fleet: fleet.hosts[subject].state)


def _gate(fleet: InMemoryFleet, host: str) -> str | None:
    waits = fleet.hosts[host].waits
    return None if waits is None else waits.gate


def _checked(
    place: Place, subject: str, expected: str, look: Callable[[InMemoryFleet], str | None]
) -> Step:
    def step(fleet: InMemoryFleet) -> Iterable[str]:
        found = look(fleet)
        if found != expected:
            raise ScenarioError(place, f"{subject}: expected {expected}, found {found}\n\n{fleet}")
        return ()

    return step


def _quiet(do: Callable[[InMemoryFleet], None]) -> Step:
    def step(fleet: InMemoryFleet) -> Iterable[str]:
        do(fleet)
        return ()

    return step


_COMMANDS: Mapping[str, Callable[[Words], Step]] = {
    "publish": _publish,
    "pass": _pass,
    "pause": _pause,
    "resume": _resume,
    "clear": _clear,
    "retire": _retire,
    "off": _off,
    "on": _on,
    "restart": _restart,
    "reboot": _reboot,
    "crash": _crash,
    "cut": _cut,
    "lose-database": _lose_database,
    "show": _show,
    "explain": _explain,
    "expect": _expect,
}
