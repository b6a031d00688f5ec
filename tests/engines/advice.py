"""The commands that read models advise, read as an operator's shell and the engine read them, and carried out.

It shares with the product the words of a command, and none of its judgement: the engine is given each, and taken back.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Final

import click

from nixfleet_cli.commands.operator import operator
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    ClearRollout,
    CommandOutcome,
    ExcuseHosts,
    ExplainHost,
    Explanation,
    GiveApproval,
    Input,
    ReleaseHold,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.overview.explanation import explained_rollout, explanation_lines
from nixfleet_control_plane.overview.needs import FleetNotices, all_rollout_needs
from nixfleet_control_plane.overview.rollouts import rollout_overviews
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey, artefact_hash, sign_approval
from nixfleet_proto.steering.approval import Approval, Decision
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
from nixfleet_runtime.http.listings import HostExplained
from nixfleet_runtime.http.overview import Need
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.planner.holds.scope import parse_scope

ADVISED: Final = re.compile(r'"nixfleet operator ([^"]+)"')
_KEY: Final = SigningKey(sha256(b"states what is advised").digest())


def refused_advice(state: State, zones: Zones, now: datetime) -> list[str]:
    """Return what is advised and would be refused, or is no command, with the reason. The state is as before."""
    engine = ControlPlaneEngine(state, None, zones)
    found = list[str]()
    for command, who in _advised(state, engine, zones, now):
        why = _why_refused(state, engine, command, who, now)
        if why is not None:
            found.append(f"{command}: {why}")
    return found


def _advised(
    state: State, engine: ControlPlaneEngine, zones: Zones, now: datetime
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each command that is advised, and who may give it; nobody: any operator."""
    needs: list[Need] = [
        *all_rollout_needs(state, now, {}),
        *engine.fleet_needs(FleetNotices(), now),
        *(need for it in rollout_overviews(state, zones, now, {}) for need in it.needs_you),
    ]
    for need in needs:
        assert need.command == (need.commands[0] if need.commands else None), need
        yield from ((command, need.who) for command in need.commands)
    hosts = {host.hostname for each in state.view.rollouts for host in state.view.hosts_of(each)}
    for hostname in sorted(hosts):
        for line in _lines(engine, state, hostname, now):
            yield from ((command, ()) for command in ADVISED.findall(line))


def _lines(engine: ControlPlaneEngine, state: State, hostname: str, now: datetime) -> Iterator[str]:
    mark = state.undo.mark()
    reply = engine.handle(ExplainHost(hostname), now).reply
    state.undo.undo_to(mark)
    assert isinstance(reply, Explanation), reply
    if reply.status is None:
        return
    rollouts = tuple(
        explained_rollout(it, engine.host_commands(it.rollout_id, hostname, now))
        for it in reply.status.rollouts
    )
    for rollout in rollouts:
        assert rollout.status is not None
        # The page draws a button for each.
        yield from (f'"nixfleet operator {command}"' for command in rollout.status.commands)
    yield from explanation_lines(HostExplained(hostname, rollouts))


def _why_refused(
    state: State, engine: ControlPlaneEngine, command: str, who: tuple[str, ...], now: datetime
) -> str | None:
    name, *arguments = command.split()
    typed = operator.commands.get(name)
    if typed is None:
        return "no such command"
    try:
        _, left, _ = typed.make_parser(click.Context(typed)).parse_args(list(arguments))
    except click.UsageError as error:
        return str(error)
    if left:
        return f"no such arguments: {left}"
    for by in who or ("ada",):
        for input in _inputs(state, name, arguments, by, now):
            mark = state.undo.mark()
            engine.use_trust(_trusting(by))
            reply = engine.handle(input, now).reply
            state.undo.undo_to(mark)
            assert isinstance(reply, CommandOutcome), reply
            if reply.refusal is not None:
                return f"{by}: {reply.refusal}"
    return None


def _trusting(name: str) -> TrustRoot:
    operators = (Operator(name, _KEY.public_key, OperatorRole.OPERATE),)
    return TrustRoot(KeySlot(_KEY.public_key), operators=operators)


def _inputs(
    state: State, name: str, arguments: list[str], by: str, now: datetime
) -> Iterator[Input]:
    why, (first, *rest) = "advised", arguments or [""]
    hosts = frozenset(rest)
    match name:
        case "clear":
            yield ClearRollout(RolloutId(first), by, why)
        case "abort":
            yield AbortRollout(RolloutId(first), by, why)
        case "retry":
            yield RetryHosts(RolloutId(first), hosts, by, why)
        case "skip":
            yield SkipHosts(RolloutId(first), hosts, by, why)
        case "excuse":
            yield ExcuseHosts(RolloutId(first), hosts, by, why)
        case "retire":
            yield RetireQuarantine(first, rest[0], by, why)
        case "resume":
            yield ResumeScope(parse_scope(first), by, why)
        case "release":
            yield ReleaseHold(parse_scope(first), by, why, rest[1])
        case "approve":
            rollout_id, wave = RolloutId(first), int(rest[1])
            manifest = artefact_hash(state.manifests[rollout_id].artefact.body)
            for decision in (Decision.APPROVE, Decision.DENY):
                said = Approval(rollout_id, wave, manifest, by, decision, why, now)
                yield GiveApproval(sign_approval(said, _KEY))
        case "hosts":
            return  # It reads.
        case _:
            raise AssertionError(f"expected a command of which the law knows, found {name}")
