"""What can be wrong with a call to an in-memory fleet: each error says what was expected and what was found."""

from collections.abc import Iterable

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.documents.problems import closest, listed


class FleetError(NixfleetError):
    """Base class of what an in-memory fleet raises because of how it was called.

    Arguments of another type raise `nixfleet.InvalidValue`, as they do in the whole library.
    """


class InvalidFleet(FleetError, ValueError):
    """The fleet cannot be built. what: the argument; expected and found: in words."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(what, expected, found)
        self.what = what
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, found {self.found}"


class WaveSizesDiffer(InvalidFleet):
    """The wave sizes do not add up to the number of hosts."""

    def __init__(self, channel: str, waves: tuple[int, ...], hosts: int) -> None:
        super().__init__(
            f"waves of channel {channel}",
            f"sizes that add up to {hosts} (the number of hosts)",
            f"{list(waves)}, which adds up to {sum(waves)}",
        )
        self.channel = channel
        self.waves = waves
        self.hosts = hosts
        # What `pickle` and `copy` call the class with.
        self.args = (channel, waves, hosts)


class UnknownName(FleetError, KeyError):
    """There is no host, channel or rollout of that name. suggestion: the name that was probably meant."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = tuple(sorted(known))
        super().__init__(kind, name, known)
        self.kind = kind
        self.name = name
        self.known = known
        self.suggestion = closest(name, known)

    def __str__(self) -> str:
        expected = f"one of {listed(self.known)}" if self.known else f"no {self.kind} exists yet"
        meant = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"unknown {self.kind} {self.name!r}: expected {expected}{meant}"


class RefTwice(FleetError, ValueError):
    """The ref was published on this channel before; a ref names one release for good."""

    def __init__(self, channel: str, ref: str) -> None:
        super().__init__(channel, ref)
        self.channel = channel
        self.ref = ref

    def __str__(self) -> str:
        return (
            f"channel {self.channel} has published {self.ref!r} already: "
            "expected a new ref, also for going back to earlier content"
        )


class InvalidTime(FleetError, ValueError):
    """Time only moves forward. seconds: what was asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"expected a duration of more than 0 seconds, found {self.seconds:g}"


class CommandRefused(FleetError):
    """The control plane refused an operator's command. reason: its answer."""

    def __init__(self, command: object, reason: str) -> None:
        super().__init__(command, reason)
        self.command = command
        self.reason = reason

    def __str__(self) -> str:
        return f"{type(self.command).__name__} was refused: {self.reason}"


class ControlPlaneDown(FleetError):
    """The control plane does not answer, because it was switched off."""

    def __str__(self) -> str:
        return "the control plane does not run: expected `switch_on` before the next command"
