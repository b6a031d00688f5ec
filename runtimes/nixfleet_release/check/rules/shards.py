"""Rules about the shards of a control plane, which its configuration names: no budget may join two.

Source: docs/spec/shards.md, A release.
"""

from collections.abc import Iterator

from nixfleet_release.written.declaration import FleetDeclaration
from nixfleet_runtime.documents.problems import Problem, at
from nixfleet_state_machine.scopes.expression import meant
from nixfleet_state_machine.scopes.one_line import one_line
from nixfleet_state_machine.scopes.selector import enabled_hosts
from nixfleet_state_machine.shards.bonds import Bond, joined
from nixfleet_state_machine.shards.shard_map import ShardMap


def joined_shards(fleet: FleetDeclaration, shards: ShardMap) -> Iterator[Problem]:
    """Yield the budgets that channels of several shards share: the control plane would refuse the release."""
    enabled = enabled_hosts(fleet.hosts, fleet.channels)
    for index, budget in enumerate(fleet.budgets):
        members = meant(budget.selector.expression, enabled)
        channels = tuple(sorted({enabled[name].channel for name in members}))
        bond = Bond(one_line(budget.selector.expression), channels)
        for each in joined(shards, (bond,)):
            found = "; ".join(f"{', '.join(of)} in {name}" for name, of in each.channels_of)
            yield Problem(
                at(at("budgets", index), "selector"),
                "shared by channels of several shards of the control plane",
                "a budget for each shard, with the channel in its selector, or these channels in one shard",
                found,
            )
