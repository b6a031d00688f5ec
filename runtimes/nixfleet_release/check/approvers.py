"""Refuses approvals that the operators of a trust file cannot give: the wave would never begin. Pure.

A declaration is checked without a trust file too, so these are not among its rules.
Source: docs/spec/guards.md, Declaration; docs/spec/guards.md, Approvals.
"""

from collections.abc import Iterator, Sequence

from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.trust import OperatorRole, TrustRoot
from nixfleet_release.check.rules.names import wave_path
from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at, closest, quoted


def declared_approvals(fleet: FleetDeclaration, trust: TrustRoot) -> Iterator[Problem]:
    """Yield the approvals of a declaration that cannot be reached with the operators of `trust`."""
    for name, policy in fleet.policies.items():
        for index, wave in enumerate(policy.waves):
            asked = wave.guards.approvals
            if asked is not None:
                path = at(at(wave_path(name, index), "approvals"), "count")
                yield from _reachable(path, asked.count, asked.names, trust, None)


def resolved_approvals(
    fleet: FleetResolved, trust: TrustRoot, author: str | None
) -> Iterator[Problem]:
    """Yield the approvals of the released waves that cannot be reached. author: who does not approve the release."""
    for channel, waves in sorted(fleet.waves.items()):
        declared = fleet.channels.get(channel)
        for index, wave in enumerate(waves if declared is None or declared.enabled else ()):
            asked = wave.guards.approvals
            if asked is not None:
                path = at(at(at(at(at("waves", channel), index), "guards"), "approvals"), "count")
                yield from _reachable(path, asked.count, asked.names, trust, author)


def _reachable(
    path: str, count: int, names: Sequence[str], trust: TrustRoot, author: str | None
) -> Iterator[Problem]:
    objections = {name: _objection(name, trust, author) for name in names}
    may = [name for name, objection in objections.items() if objection is None]
    if count <= len(may):
        return
    who = f"{', '.join(may)} may approve" if may else "nobody named may approve"
    why = "; ".join(it for it in objections.values() if it is not None)
    yield Problem(
        path,
        "more approvals than operators who may approve, so the wave would never begin",
        f"at most {len(may)} ({who}; {why})",
        str(count),
    )


def _objection(name: str, trust: TrustRoot, author: str | None) -> str | None:
    """Return why this operator cannot approve, as the control plane decides it; `None`: nothing is against it."""
    operator = next((each for each in trust.operators if each.name == name), None)
    if operator is None:
        meant = closest(name, (each.name for each in trust.operators))
        suggestion = "" if meant is None else f", did you mean {meant}?"
        return f"{quoted(name)} is no operator of the trust file{suggestion}"
    if operator.role is not OperatorRole.OPERATE:
        return f"{name} has the role {operator.role}, and approving takes {OperatorRole.OPERATE}"
    return f"{name} is the author" if name == author else None
