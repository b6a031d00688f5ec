"""How a worker tells the engine something."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from nixfleet_agent.inputs import Input, Reply

Post: TypeAlias = Callable[[Input], Awaitable[Reply]]
