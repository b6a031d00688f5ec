"""What changed since the last plan, and so may have changed an answer. Too much in here costs time, no more."""

from attrs import Factory, define

from nixfleet_proto.ids import RolloutId


@define
class Stirred:
    """Where `replan` has to look.

    channels: there may be a rollout to open. rollouts: all their lanes and queued dispatches.
    earlier_waves: rollouts in which the gates that look at earlier waves may say something else.
    budgets: by name; the lanes of their members. hosts: by rollout; one at a time.
    """

    channels: set[str] = Factory(set[str])
    rollouts: set[RolloutId] = Factory(set[RolloutId])
    earlier_waves: set[RolloutId] = Factory(set[RolloutId])
    budgets: set[str] = Factory(set[str])
    hosts: dict[RolloutId, set[str]] = Factory(dict[RolloutId, set[str]])

    @property
    def is_anything(self) -> bool:
        """Whether there is anywhere to look."""
        return bool(
            self.hosts or self.budgets or self.earlier_waves or self.rollouts or self.channels
        )

    def add_host(self, rollout_id: RolloutId, hostname: str) -> None:
        """Stir one host."""
        self.hosts.setdefault(rollout_id, set()).add(hostname)

    def add_all(self, other: "Stirred") -> None:
        """Stir all that `other` has."""
        self.channels |= other.channels
        self.rollouts |= other.rollouts
        self.earlier_waves |= other.earlier_waves
        self.budgets |= other.budgets
        for rollout_id, hostnames in other.hosts.items():
            self.hosts.setdefault(rollout_id, set()).update(hostnames)
