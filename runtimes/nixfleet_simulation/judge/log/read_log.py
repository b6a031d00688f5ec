"""What was read of one control plane's log so far: the models, the stored views, and what is being handled. Data."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias

from nixfleet_control_plane.messages.inputs import Input
from nixfleet_simulation.judge.log.views import StoredViews
from nixfleet_simulation.judge.model.gates import Gates
from nixfleet_simulation.judge.model.host_model import HostModel
from nixfleet_simulation.judge.model.identities import IdentityModel, MintedTokens
from nixfleet_simulation.judge.model.lies import Lies
from nixfleet_simulation.judge.model.releases import Releases
from nixfleet_simulation.judge.model.rollout_model import Moment, RolloutModel
from nixfleet_simulation.judge.model.steering.guards import Statement
from nixfleet_simulation.scenario.scenario import ChannelLayout

HostKey: TypeAlias = tuple[str, str]
"""Rollout id, host."""


class ReadLog:
    """The state that the log implies. touched: host records to compare. layouts: as the manifests in force have them.

    input, now: what is being handled, and when, by the control plane's clock. moment: when that became durable.
    last_heard: of hosts, since the start. hashes: of the manifests in force. statements: of operators, by signature.
    """

    def __init__(
        self,
        releases: Releases,
        lies: Lies,
        minted: MintedTokens,
        statements: Mapping[str, Statement],
    ) -> None:
        self.checks = 0
        self.head = 0
        self.views = StoredViews()
        self.deferred: dict[HostKey, str] = {}
        self.touched: set[HostKey] = set()
        self.releases = releases
        self.lies = lies
        self.identities = IdentityModel(minted)
        self.gates = Gates(self.identities.is_revoked)
        self.last_heard: dict[str, datetime] = {}
        self.layouts: dict[str, ChannelLayout] = {}
        self.input: Input | None = None
        self.now: datetime
        self.moment = Moment()
        self.hashes: dict[str, str] = {}
        self.statements = statements

    @property
    def rollouts(self) -> dict[str, RolloutModel]:
        return self.gates.rollouts

    def host_model(self, rollout_id: str, host: str) -> HostModel | None:
        """Return the model of a host in a rollout that is open and not pruned, `None` otherwise."""
        rollout = self.rollouts.get(rollout_id)
        if rollout is None or rollout.due.state == "Pruned":
            return None
        return rollout.hosts.get(host)

    def is_held_as_forked(self, host: str) -> bool:
        """Return whether `host` contradicted itself, and no operator resumed it."""
        return (f"host:{host}", "contradiction") in self.gates.holds

    def queued_for(self, host: str) -> list[RolloutModel]:
        """Return the rollouts that have a dispatch in the queue for `host`."""
        return [
            rollout
            for rollout in self.rollouts.values()
            if host in rollout.hosts and rollout.hosts[host].is_queued
        ]
