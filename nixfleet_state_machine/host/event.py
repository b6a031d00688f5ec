"""An event is a fact with the side it is seen from. The side decides which effects follow, never the move."""

from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.checked import checked


@frozen
@checked
class Local:
    """The agent lived this fact."""

    fact: AgentEvent


@frozen
@checked
class Remote:
    """The control plane was told this fact."""

    fact: AgentEvent


Event: TypeAlias = Local | Remote
