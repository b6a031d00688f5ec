"""How a worker tells the engine something."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from nixfleet_agent.inputs import Input, Reply

Post: TypeAlias = Callable[[Input], Awaitable[Reply]]
TryOnce: TypeAlias = Callable[[Input], Awaitable[Reply | None]]
"""As `Post`, but `None` when it could not be made durable: for what the world will say again."""
