"""Terms of a manifest that was amended: hosts were removed, and nothing else differs.

Source: docs/spec/policy.md, Members.
"""

from typing import TypeVar

from attrs import evolve

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.planner.terms import RolloutTerms

T = TypeVar("T")


def without_host(terms: RolloutTerms, hostname: str) -> RolloutTerms:
    """Return terms that differ in nothing but that `hostname` is not a host of the rollout."""
    return evolve(
        terms,
        targets=_without(terms.targets, hostname),
        wave_of=_without(terms.wave_of, hostname),
        budgets=tuple(evolve(each, hosts=each.hosts - {hostname}) for each in terms.budgets),
        host_edges=tuple(e for e in terms.host_edges if hostname not in (e.gates, e.gated)),
    )


def _without(by_host: FrozenMap[str, T], hostname: str) -> FrozenMap[str, T]:
    return FrozenMap({host: value for host, value in by_host.items() if host != hostname})
