"""An event is a fact with the side it is seen from. The side decides which effects follow, never the move."""

from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.checked import checked


@frozen
@checked
class Local:
    """A fact as its own agent sees it."""

    fact: AgentEvent


@frozen
@checked
class Remote:
    """A fact as the control plane received it."""

    fact: AgentEvent


Event: TypeAlias = Local | Remote
