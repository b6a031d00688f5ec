"""nixfleet: rollouts of a fleet as a pure state machine.

The names of `nixfleet_proto` and `nixfleet_state_machine` in one place, and `__version__`; `dir(nixfleet)` is the
public API. A name is imported when it is first used, so `import nixfleet` costs next to nothing. `to_json` is that of
`nixfleet_state_machine`, which takes what the other one takes and more.
"""

from typing import TYPE_CHECKING

import nixfleet_proto
import nixfleet_state_machine

if TYPE_CHECKING:
    from nixfleet._version import __version__
    from nixfleet_proto import *  # noqa: F403
    from nixfleet_state_machine import *  # noqa: F403

__all__ = ["__version__"]
__all__ += nixfleet_proto.__all__
__all__ += nixfleet_state_machine.__all__

if not TYPE_CHECKING:  # a checker would take `__getattr__` for any name at all
    __all__ = sorted(set(__all__))  # the errors and `to_json` are in both

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from nixfleet._version import __version__ as value
        elif name in nixfleet_state_machine.__all__:
            value = getattr(nixfleet_state_machine, name)
        elif name in nixfleet_proto.__all__:
            value = getattr(nixfleet_proto, name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return list(__all__)
