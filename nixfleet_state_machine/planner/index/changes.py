"""The changes since the last plan that may alter an answer. An entry too many costs time and alters nothing."""

from attrs import Factory, define

from nixfleet_proto.ids import RolloutId


@define
class Changes:
    """What `replan` evaluates again.

    channels: may have a rollout to open. rollouts: all their lanes and queued dispatches.
    earlier_waves: rollouts in which gates that depend on earlier waves may give another answer.
    budgets: by name; the lanes of their members. hosts: by rollout.
    """

    channels: set[str] = Factory(set[str])
    rollouts: set[RolloutId] = Factory(set[RolloutId])
    earlier_waves: set[RolloutId] = Factory(set[RolloutId])
    budgets: set[str] = Factory(set[str])
    hosts: dict[RolloutId, set[str]] = Factory(dict[RolloutId, set[str]])

    @property
    def is_anything(self) -> bool:
        """Whether there is any change."""
        return bool(
            self.hosts or self.budgets or self.earlier_waves or self.rollouts or self.channels
        )

    def add_host(self, rollout_id: RolloutId, hostname: str) -> None:
        """Add one host."""
        self.hosts.setdefault(rollout_id, set()).add(hostname)

    def add_all(self, other: "Changes") -> None:
        """Add all changes of `other`."""
        self.channels |= other.channels
        self.rollouts |= other.rollouts
        self.earlier_waves |= other.earlier_waves
        self.budgets |= other.budgets
        for rollout_id, hostnames in other.hosts.items():
            self.hosts.setdefault(rollout_id, set()).update(hostnames)
