"""The hosts of a rollout by name and state, as `nixfleet watch` lists them: asked for with their names once only."""

from typing import Final, NamedTuple
from urllib.parse import urlencode

from nixfleet_cli.shared.operator_client import Refused
from nixfleet_cli.watch.reads import Reads
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.host_pages import HOST_MAP, HostMap
from nixfleet_runtime.http.overview import RolloutOverview
from nixfleet_state_machine.host.state import HostState

HOSTS_MAX: Final = 2_000
"""Of greater rollouts the hosts are not asked for: no terminal has room for them."""


class NamedHost(NamedTuple):
    """A host of a rollout. state: in words, for a newer control plane may have more of them."""

    name: str
    state: str

    @property
    def has_failed(self) -> bool:
        return self.state in {HostState.FAILED, HostState.REVERTED}


class Hosts:
    """Keeps the names of hosts between two answers."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._known: dict[RolloutId, HostMap] = {}

    async def of(self, rollout: RolloutOverview) -> tuple[NamedHost, ...]:
        """Return the hosts, by wave and name; none of a rollout with too many. Raises: Refused, Unusable."""
        if rollout.hosts > HOSTS_MAX:
            return ()
        rollout_id = rollout.rollout_id
        known = self._known.get(rollout_id)
        asked = {} if known is None else {"members": known.members}
        path = f"{paths.rollout_path(rollout_id, '/hosts')}?{urlencode(asked)}".rstrip("?")
        try:
            answer = await self._reads.read(path, HOST_MAP)
        except Refused as refused:
            if refused.kind == "rollout-unknown":  # It was pruned in between.
                return ()
            raise
        if answer.names is not None:
            self._known[rollout_id] = answer
        names = self._known[rollout_id].names or ()
        states = (answer.state_names[int(place)] for place in answer.states)
        return tuple(map(NamedHost, names, states))
