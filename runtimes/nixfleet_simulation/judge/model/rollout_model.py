"""One rollout: the state that is due, derived from its hosts, and the state in the log.

`due` is worked out from facts alone, whenever one came; `logged` follows the log's own rollout events. The two
must agree after every input.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from attrs import Factory, define, field, frozen

from nixfleet_simulation.judge.model.dues import has_consequence
from nixfleet_simulation.judge.model.host_model import HostModel, Json
from nixfleet_simulation.judge.model.steering.guards import Said
from nixfleet_simulation.judge.model.verdicts import (
    BROKEN,
    ENDS_WITH_A_FACT,
    FOR_NOTHING,
    SILENT,
    Count,
    allowed,
    count,
)
from nixfleet_simulation.judge.model.verdicts import DONE as WAVE_DONE
from nixfleet_simulation.scenario.scenario import ChannelLayout

LIVE: Final = frozenset({"Opening", "Active", "Converging", "Reverted", "Failed", "Aborted"})
CLEARABLE: Final = frozenset({"Reverted", "Failed"})
HALTED: Final = CLEARABLE | {"Aborted"}
DONE: Final = frozenset({"Terminal", "Superseded"})
UNDER_WAY: Final = frozenset({"Active", "Converging"})
SERVED: Final = LIVE | {"Terminal"}


@frozen
class Moment:
    """A moment in true time, and all that the control plane's clock was set forward by before; in microseconds."""

    at: int = 0
    set_forward: int = 0


FAILURES: Final = frozenset({"Reverted", "Failed"})
"""The states of a host that failed."""
RETENTION: Final = timedelta(hours=72)
AT_REST: Final = HALTED | DONE | {"Pruned"}


BEFORE_FIRST_WAVE: Final = -1


@define
class Progress:
    """The progress of a rollout: its state and its current wave. asks: the guards of the next wave are asked."""

    state: str = "Opening"
    wave: int = 0
    asks: bool = False


@define(eq=False)
class RolloutModel:
    """A rollout that was opened. wave_of: by host.

    standings, attempts: those due, of the hosts that have one, or another one than the first; logged_standings: as the
    log's events have them. was_broken: a wave broke. was_interfered: somebody was excused, skipped or cleared, or was
    silent past a deadline, so that what was computed before the start does not bound what happens. is_unbounded: a host
    regressed, or was deferred, which is not in that either. begins: by wave, when it may begin, if it has a time.
    joined: the hosts that joined by an amended manifest. said: of its guards. asked_at, asked_moment: since when those
    of the next wave are asked, by the control plane's clock and in true time. cleared_at: the last clearance that let
    what was said count no more.
    """

    rollout_id: str
    layout: ChannelLayout
    hosts: dict[str, HostModel]
    begins: tuple[datetime, ...] = ()
    wave_of: dict[str, int] = field(init=False)
    due: Progress = Factory(Progress)
    logged: Progress = Factory(Progress)
    standings: dict[str, str] = Factory(dict[str, str])
    logged_standings: dict[str, str] = Factory(dict[str, str])
    attempts: dict[str, int] = Factory(dict[str, int])
    waived: set[int] = Factory(set[int])
    joined: set[str] = Factory(set[str])
    was_broken: bool = False
    was_interfered: bool = False
    is_unbounded: bool = False
    was_done: bool = False
    moved_at: datetime | None = None
    said: Said = Factory(Said)
    asked_at: datetime | None = None
    asked_moment: Moment = Moment()
    cleared_at: datetime | None = None

    def __attrs_post_init__(self) -> None:
        if self.layout.guards_of(0).is_declared:
            self.due.wave = self.logged.wave = BEFORE_FIRST_WAVE
        self.wave_of = {
            host: index for index, wave in enumerate(self.layout.waves) for host in wave
        }

    @property
    def is_live(self) -> bool:
        return self.due.state in LIVE

    @property
    def is_halted(self) -> bool:
        return self.due.state in HALTED

    @property
    def is_served(self) -> bool:
        """Whether hosts are dispatched, those that are late included."""
        return self.is_live or self.due.state == "Terminal"

    @property
    def is_under_way(self) -> bool:
        return self.due.state in UNDER_WAY

    def is_early(self, now: datetime) -> bool:
        """Return whether the time of a wave that was reached is to come."""
        return any(begins > now for begins in self.begins[: self.due.wave + 1])

    # Standings.

    def standing(self, host: str) -> str:
        """Return how the host counts."""
        return self.standings.get(host, "counted")

    def attempt(self, host: str) -> int:
        """Return the last attempt that was ordered."""
        return self.attempts.get(host, 1)

    def set_standing(self, host: str, standing: str) -> None:
        """Let the host count by `standing` from now on."""
        _set(self.standings, host, standing)
        self.was_interfered |= standing != "counted"

    def is_tolerant_of(self, host: str) -> bool:
        """Return whether the host's failure alone does not break its wave."""
        return allowed(self.layout, self.wave_of[host]) > 0

    def is_served_late(self, host: str) -> bool:
        """Return whether the host is served, and takes a slot, after the rollout is Terminal."""
        standing, model = self.standing(host), self.hosts[host]
        tries_again = self.attempt(host) > 1 or (
            model.counts_as_failed and self.is_tolerant_of(host)
        )
        return standing in ("late", "skipped") or (standing == "counted" and tries_again)

    def is_waiting(self, host: str) -> bool:
        """Return whether the host needs a dispatch that is not queued, and is planned for."""
        model = self.hosts[host]
        if model.is_queued or self.standing(host) in (*SILENT, "left"):
            return False
        is_planned = self.is_live or (self.is_served and self.is_served_late(host))
        return is_planned and model.needs_dispatch(self.attempt(host))

    def takes_slot(self, host: str) -> bool:
        """Return whether the host is in flight, for the budgets."""
        model, standing = self.hosts[host], self.standing(host)
        if standing in SILENT or not self.is_served:
            return False
        if not self.is_live and not self.is_served_late(host):
            return False
        is_down = model.state == "Failed" and self.is_tolerant_of(host)
        return self.is_under_way_itself(host) or (is_down and standing not in ("excused", "left"))

    def is_down_for_good(self, host: str) -> bool:
        """Return whether the host is down until an operator excuses it.

        Its rollback does not work and no deadline ends that; or it has none, and no attempt is left.
        """
        model, policy = self.hosts[host], self.layout.policy
        if model.is_rolling_back:
            return not has_consequence(policy.deadlines.activation)
        is_last = self.attempt(host) == model.attempt >= policy.retry.attempts
        return model.state == "Failed" and is_last

    def is_under_way_itself(self, host: str) -> bool:
        """Return whether the host acts or has a dispatch, for the ramp: it is not merely down."""
        model = self.hosts[host]
        is_queued = model.is_queued and model.needs_dispatch(self.attempt(host))
        return self.standing(host) not in SILENT and (model.is_in_flight or is_queued)

    def give_back(self, host: str) -> None:
        """Count a host again that was silent or skipped, unless its wave was done without it."""
        if self.is_served and self.standing(host) in ENDS_WITH_A_FACT:
            self.set_standing(host, self._back(host))

    def _back(self, host: str) -> str:
        return "late" if self._is_done_without(self.wave_of[host]) else "counted"

    def _is_done_without(self, wave: int) -> bool:
        """Return whether nobody waits for a host of the wave any more. One whose successor is asked for stays done."""
        return self.due.state == "Terminal" or wave < self.due.wave + self.due.asks

    def heard(self, host: str) -> None:
        """Count a host again that does not act, since it was heard of."""
        model = self.hosts.get(host)
        if model is None:
            return  # It left.
        is_idle = model.needs_dispatch(self.attempt(host)) and not model.is_queued
        if not self.is_served or self.standing(host) not in SILENT or not is_idle:
            return
        back = self._back(host)
        waits_in_vain = any(self.never_comes(each) for each in self._awaited_by(host))
        self.set_standing(host, "skipped" if back == "counted" and waits_in_vain else back)
        self.advance()

    def never_comes(self, host: str) -> bool:
        """Return whether nobody should wait for the host, which is not done."""
        model, standing = self.hosts[host], self.standing(host)
        if model.is_eligible:
            return False
        has_failed_for_good = (
            model.state in FAILURES
            and self.is_tolerant_of(host)
            and self.attempt(host) == model.attempt >= self.layout.policy.retry.attempts
        )
        return standing in ENDS_WITH_A_FACT or (standing == "counted" and has_failed_for_good)

    def waits_in_vain(self, host: str) -> bool:
        """Return whether the host counts and waits for one that does not come."""
        counts = self.standing(host) == "counted" and self.is_waiting(host)
        return counts and any(self.never_comes(each) for each in self._awaited_by(host))

    def _awaited_by(self, host: str) -> list[str]:
        return [first for first, then in self.layout.edges if then == host]

    def awaited_by_others(self) -> list[str]:
        """Return the hosts that are not done and that a waiting host comes after."""
        waiting = [host for host in self.hosts if self.is_waiting(host)]
        awaited = {first for host in waiting for first in self._awaited_by(host)}
        return sorted(host for host in awaited if not self.hosts[host].is_eligible)

    # Counts.

    def count_of(self, wave: int) -> Count:
        """Return the count of the wave's hosts."""
        hosts = self.layout.waves[wave]
        found = count((self.hosts[host], self.standing(host)) for host in hosts)
        found.is_waived = wave in self.waived
        return found

    def is_broken(self, wave: int) -> bool:
        """Return whether the wave's verdict is broken."""
        counted = self.count_of(wave)
        return counted.verdict(counted.eligible, allowed(self.layout, wave)) == BROKEN

    def failed_hosts(self) -> int:
        """Return how many hosts count as failed, over all waves."""
        return sum(self.count_of(wave).failed for wave in range(len(self.layout.waves)))

    def worst_failed(self) -> int:
        """Return the most hosts that can fail, by what was signed."""
        sizes = [len(wave) for wave in self.layout.waves]
        tolerated = sum(allowed(self.layout, wave) for wave in range(len(sizes)))
        limit = self.layout.max_in_flight
        return min(sum(sizes), tolerated + (sum(sizes) if limit is None else limit))

    # What is due, by the facts.

    def join(self) -> None:
        """Note that a dispatch was queued for a host, or that its first fact came."""
        if self.due.state == "Opening":
            self.due.state = "Active"
            self.advance()  # All that its first waves wait for may have been excused before.

    def host_moved(self, host: str) -> None:
        """Note a new state of a host."""
        to, standing = self.hosts[host].state, self.standing(host)
        counts = to in FAILURES and standing not in FOR_NOTHING
        halts = self.is_under_way and not self.is_tolerant_of(host)
        reverts = self.due.state == "Failed" and to == "Reverted"
        if counts and (halts or reverts):
            self.due.state = to
        if counts:
            self.counts_for_less((host,))
        self.advance()

    def counts_for_less(self, hosts: Iterable[str]) -> None:
        """Halt the rollout if the wave of one of the hosts, which failed or do not come, is broken by now."""
        if self.is_under_way and any(self.is_broken(self.wave_of[host]) for host in hosts):
            self.due.state = "Failed"
            self.was_broken = True

    def advance(self) -> None:
        """Promote waves and complete the rollout, as far as the hosts allow."""
        place = self.due
        last = len(self.layout.waves) - 1
        is_to_begin = place.state == "Opening" and place.wave == BEFORE_FIRST_WAVE
        if place.state not in UNDER_WAY and not is_to_begin:
            return
        if self.is_broken_by_guards():
            place.state = "Failed"
            self.was_broken = True
            return
        if is_to_begin:
            self._begins_next()
            return
        counts = [self.count_of(wave) for wave in range(last + 1)]
        may_fail = [allowed(self.layout, wave) for wave in range(last + 1)]
        while (
            place.wave < last
            and (
                place.wave == BEFORE_FIRST_WAVE
                or counts[place.wave].verdict(counts[place.wave].eligible, may_fail[place.wave])
                == WAVE_DONE
            )
            and self._begins_next()
        ):
            place.state = "Active"
        settled = counts[last].verdict(counts[last].settled, may_fail[last])
        if place.wave == last and settled == WAVE_DONE:
            place.state = "Converging"
        has_begun = not any(
            self.layout.guards_of(w).is_declared for w in range(place.wave + 1, last + 1)
        )
        if has_begun and all(
            counted.verdict(counted.converged, limit) == WAVE_DONE
            for counted, limit in zip(counts, may_fail, strict=True)
        ):
            place.state = "Terminal"
            self.was_done = True

    def _begins_next(self) -> bool:
        """Return whether the next wave begins by its guards, which are asked from now on if it does not."""
        wave = self.due.wave + 1
        guards = self.layout.guards_of(wave)
        if guards.is_declared and not self.said.lets_begin(wave, guards):
            self.due.asks = True
            return False
        self.due.wave, self.due.asks = wave, False
        self.said.begin(wave)
        return True

    def is_broken_by_guards(self) -> bool:
        """Return whether a guard of a wave that has not begun can be satisfied no more."""
        later = range(self.due.wave + 1, len(self.layout.waves))
        return any(self.said.breaks(wave, self.layout.guards_of(wave)) for wave in later)

    def hear(self, event: Json) -> None:
        """Note what a judge said of a guard."""
        if event["wave"] > self.due.wave:
            self.said.hear(event["wave"], event["guard"], event["judge"], event["outcome"])
        self.advance()

    def _unguard(self) -> None:
        """Ask the guards of the next wave anew, once that is due."""
        self.said.forget()
        self.due.asks = False

    def supersede(self) -> None:
        """Note that a newer rollout of the channel opened."""
        if self.due.state != "Pruned":
            self._unguard()
            self.due.state = "Superseded"
            self.was_done = True

    def clear(self, excused: set[str]) -> None:
        """Note an operator's clearance that excuses `excused`."""
        for host in excused:
            self.set_standing(host, "excused")
        counts = {wave: self.count_of(wave) for wave in range(len(self.layout.waves))}
        self.waived |= {wave for wave, it in counts.items() if it.total == 0 and it.absent}
        self.was_interfered = True
        self._unguard()
        self.due.state = "Active"
        self.advance()

    def abort(self) -> None:
        """Note that an operator ended the rollout: nothing but a successor follows."""
        self.was_interfered = True
        self.was_done = False
        self.due.state = "Aborted"

    # Members.

    def members_change(self, layout: ChannelLayout) -> tuple[list[str], list[str], list[str]]:
        """Return who joins, who leaves, and who of the first is late, when `layout` is signed."""
        joined = sorted(set(layout.hosts) - self.hosts.keys())
        wave_of = {host: index for index, wave in enumerate(layout.waves) for host in wave}
        late = [host for host in joined if self._is_done_without(wave_of[host])]
        return joined, sorted(self.hosts.keys() - set(layout.hosts)), late

    def amend(self, layout: ChannelLayout, new: dict[str, HostModel]) -> None:
        """Let the hosts of `new` join, and those leave that `layout` does not have."""
        _, left, late = self.members_change(layout)
        waves = {self.wave_of[host] for host in left}
        for host in left:
            del self.hosts[host]
            self.attempts.pop(host, None)
            self.set_standing(host, "left")
        self.layout = layout
        self.said.forget()
        self.wave_of = {host: index for index, wave in enumerate(layout.waves) for host in wave}
        self.hosts |= new
        self.joined |= new.keys()
        for host in new:
            self.set_standing(host, "late" if host in late else "counted")
        # Of those that are left any host stands for its wave.
        self.counts_for_less([layout.waves[wave][0] for wave in waves])
        self.advance()

    def awaited_before(self, wave: int) -> list[HostModel]:
        """Return the hosts of all earlier waves that count, and did not fail where they may."""
        return [
            self.hosts[host]
            for hosts in self.layout.waves[:wave]
            for host in hosts
            if self.standing(host) == "counted"
            and not (self.hosts[host].counts_as_failed and self.is_tolerant_of(host))
        ]

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
                legal = logged.state in UNDER_WAY or (
                    logged.state == "Failed" and event["to"] == "Reverted"
                )
                return self._set_logged(event["to"], legal and event["to"] in FAILURES, kind)
            case "WaveAdvanced":
                return self._advance_logged_wave(event["from_wave"], event["to_wave"])
            case "RolloutTerminal":
                return self._set_logged("Terminal", logged.state in UNDER_WAY, kind)
            case "GuardsOpened":
                is_next = event["wave"] == logged.wave + 1 and not logged.asks
                logged.asks, self.asked_at = True, at
                may = logged.state in (*UNDER_WAY, "Opening")
                return None if is_next and may else f"{kind} while {logged}"
            case "Verdict":
                may = logged.state in (*UNDER_WAY, "Opening") and event["wave"] > logged.wave
                return None if may else f"{kind} of wave {event['wave']} while {logged}"
            case "SuccessorOpened":
                logged.asks = False
                return self._set_logged("Superseded", logged.state != "Superseded", kind)
            case "RetentionExpired":
                lasted = None if self.moved_at is None else at - self.moved_at
                if lasted is None or lasted < RETENTION:
                    return f"it is pruned {lasted} after it settled"
                problem = self._set_logged("Pruned", logged.state in HALTED | DONE, kind)
                self.due.state = "Pruned"
                return problem
            case "OperatorClearance":
                logged.asks = False
                self.cleared_at = at if self.said.by_guard else self.cleared_at
                for host in event["excused_hosts"]:
                    _set(self.logged_standings, host, "excused")
                return self._set_logged("Active", logged.state in CLEARABLE, kind)
            case "RolloutAborted":
                return self._set_logged("Aborted", logged.state in SERVED - {"Aborted"}, kind)
            case "WaveBroken":
                is_to_begin = logged.state == "Opening" and logged.wave == BEFORE_FIRST_WAVE
                return self._set_logged("Failed", logged.state in UNDER_WAY or is_to_begin, kind)
            case "HostsLapsed" | "StandingChanged":
                for host in event["hosts"]:
                    _set(self.logged_standings, host, event["standing"])
                return None if logged.state in SERVED else f"{kind} while {logged.state}"
            case "RetryOrdered":
                return self._order_attempt(event)
            case "MembersChanged":
                for hosts, standing in (("joined", "counted"), ("left", "left"), ("late", "late")):
                    for host in event[hosts]:
                        _set(self.logged_standings, host, standing)
                return None if logged.state in SERVED else f"{kind} while {logged.state}"
            case "HostDrifted" | "DriftEnded":
                return None  # Shown, and decides nothing here: no simulated channel restores.
            case _:
                return f"{kind} is not a rollout event"

    def _order_attempt(self, event: Json) -> str | None:
        attempt = event["attempt"]
        for host in event["hosts"]:
            model = self.hosts[host]
            if attempt != model.attempt + 1 or not model.may_try_again:
                return f"{host} is to make attempt {attempt} after {model.attempt}, and is {model.state}"
            self.attempts[host] = attempt
            model.dispatched_at = model.soak_due_at = None
            if self.logged.state == "Terminal":
                self.set_standing(host, "late")
                _set(self.logged_standings, host, "late")
        return None if self.logged.state in SERVED else f"RetryOrdered while {self.logged.state}"

    def _set_logged(self, state: str, is_legal: bool, kind: str) -> str | None:
        if not is_legal:
            return f"{kind} is not legal while {self.logged.state}"
        self.logged.state = state
        return None

    def _advance_logged_wave(self, from_wave: int, to_wave: int) -> str | None:
        is_to_begin = self.logged.state == "Opening" and from_wave == BEFORE_FIRST_WAVE
        if self.logged.state not in UNDER_WAY and not is_to_begin:
            return f"WaveAdvanced is not legal while {self.logged.state}"
        if from_wave < self.logged.wave:
            return f"wave {from_wave} is left again, after wave {self.logged.wave} was reached"
        if to_wave > from_wave:
            self.logged = Progress("Opening" if is_to_begin else "Active", to_wave)
        else:
            self.logged.state = "Converging"
        return None


def _set(standings: dict[str, str], host: str, standing: str) -> None:
    if standing == "counted":
        standings.pop(host, None)
    else:
        standings[host] = standing
