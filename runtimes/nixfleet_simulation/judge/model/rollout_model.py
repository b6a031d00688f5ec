"""One rollout: the state that is due, derived from its hosts, and the state in the log.

`due` is worked out from facts alone, whenever one came; `logged` follows the log's own rollout events. The two
must agree after every input.
"""

from datetime import datetime, timedelta
from typing import Final

from attrs import Factory, define, field

from nixfleet_simulation.judge.model.host_model import HostModel, Json
from nixfleet_simulation.scenario.scenario import ChannelLayout

LIVE: Final = frozenset({"Opening", "Active", "Converging", "Reverted", "Failed"})
HALTED: Final = frozenset({"Reverted", "Failed"})
DONE: Final = frozenset({"Terminal", "Superseded"})
RETENTION: Final = timedelta(hours=72)
AT_REST: Final = HALTED | DONE | {"Pruned"}


@define
class Progress:
    """The progress of a rollout: its state and its current wave."""

    state: str = "Opening"
    wave: int = 0


@define(eq=False)
class RolloutModel:
    """A rollout that was opened. wave_of: by host. excused: hosts that do not count any more."""

    rollout_id: str
    layout: ChannelLayout
    hosts: dict[str, HostModel]
    wave_of: dict[str, int] = field(init=False)
    due: Progress = Factory(Progress)
    logged: Progress = Factory(Progress)
    excused: set[str] = Factory(set[str])
    was_done: bool = False
    moved_at: datetime | None = None

    def __attrs_post_init__(self) -> None:
        self.wave_of = {
            host: index for index, wave in enumerate(self.layout.waves) for host in wave
        }

    @property
    def is_live(self) -> bool:
        return self.due.state in LIVE

    @property
    def is_halted(self) -> bool:
        return self.due.state in HALTED

    # What is due, by the facts.

    def join(self) -> None:
        """Note that a dispatch was queued for a host, or that its first fact came."""
        if self.due.state == "Opening":
            self.due.state = "Active"

    def host_moved(self, host: str) -> None:
        """Note a new state of a host."""
        to = self.hosts[host].state
        if host not in self.excused and to in HALTED:
            moves = self.due.state in ("Active", "Converging")
            if moves or (self.due.state == "Failed" and to == "Reverted"):
                self.due.state = to
        self.advance()

    def advance(self) -> None:
        """Promote waves and complete the rollout, as far as the hosts allow."""
        place = self.due
        if place.state not in ("Active", "Converging"):
            return
        last = len(self.layout.waves) - 1
        while place.wave < last and all(c.is_eligible for c in self.counted(place.wave)):
            place.wave += 1
            place.state = "Active"
        if place.wave == last and all(model.is_settled for model in self.counted(last)):
            place.state = "Converging"
        if all(
            model.state == "Converged"
            for host, model in self.hosts.items()
            if host not in self.excused
        ):
            place.state = "Terminal"
            self.was_done = True

    def supersede(self) -> None:
        """Note that a newer rollout of the channel opened."""
        if self.due.state != "Pruned":
            self.due.state = "Superseded"
            self.was_done = True

    def clear(self, excused: set[str]) -> None:
        """Note an operator's clearance that excuses `excused`."""
        self.excused |= excused
        self.due.state = "Active"
        self.advance()

    def counted(self, wave: int) -> list[HostModel]:
        """Return the hosts of a wave that are not excused."""
        return [self.hosts[host] for host in self.layout.waves[wave] if host not in self.excused]

    def counted_before(self, wave: int) -> list[HostModel]:
        """Return the hosts of all earlier waves that are not excused."""
        return [model for earlier in range(wave) for model in self.counted(earlier)]

    # What the log has.

    def apply_logged(self, event: Json, at: datetime) -> str | None:
        """Apply a rollout event of the log; return why it is not legal, `None` if it is.

        Source: docs/spec/rollout-machine.md, Transitions.
        """
        before = self.logged.state
        problem = self._apply_logged(event, at)
        if self.logged.state != before:
            self.moved_at = at
        return problem

    def _apply_logged(self, event: Json, at: datetime) -> str | None:
        kind, logged = event["kind"], self.logged
        if logged.state == "Pruned":
            return f"{kind} after it was pruned"
        match kind:
            case "HostJoined":
                return self._set_logged("Active", logged.state == "Opening", kind)
            case "HostStateChanged":
                legal = logged.state in ("Active", "Converging") or (
                    logged.state == "Failed" and event["to"] == "Reverted"
                )
                return self._set_logged(event["to"], legal and event["to"] in HALTED, kind)
            case "WaveAdvanced":
                return self._advance_logged_wave(event["from_wave"], event["to_wave"])
            case "RolloutTerminal":
                return self._set_logged("Terminal", logged.state in ("Active", "Converging"), kind)
            case "SuccessorOpened":
                return self._set_logged("Superseded", logged.state != "Superseded", kind)
            case "RetentionExpired":
                lasted = None if self.moved_at is None else at - self.moved_at
                if lasted is None or lasted < RETENTION:
                    return f"it is pruned {lasted} after it settled"
                problem = self._set_logged("Pruned", logged.state in HALTED | DONE, kind)
                self.due.state = "Pruned"
                return problem
            case "OperatorClearance":
                return self._set_logged("Active", logged.state in HALTED, kind)
            case _:
                return f"{kind} is not a rollout event"

    def _set_logged(self, state: str, is_legal: bool, kind: str) -> str | None:
        if not is_legal:
            return f"{kind} is not legal while {self.logged.state}"
        self.logged.state = state
        return None

    def _advance_logged_wave(self, from_wave: int, to_wave: int) -> str | None:
        if self.logged.state not in ("Active", "Converging"):
            return f"WaveAdvanced is not legal while {self.logged.state}"
        if from_wave < self.logged.wave:
            return f"wave {from_wave} is left again, after wave {self.logged.wave} was reached"
        if to_wave > from_wave:
            self.logged = Progress("Active", to_wave)
        else:
            self.logged.state = "Converging"
        return None
