"""The promises that must hold under every fault, and the exception for one that broke."""

from enum import StrEnum

from attrs import frozen

from nixfleet_proto.errors import NixfleetError


class Promise(StrEnum):
    """The twenty-four promises, the invariants of both machines and the planner, and that no engine fails on an input.

    Source: docs/spec/runtimes.md, What must hold.
    """

    ACKNOWLEDGED_IS_KEPT = "1: no event acknowledged with 204 is ever lost"
    MIRROR_IS_THE_HOST = "2: the control plane's record equals the agent's for the same facts"
    ONLY_WHAT_IS_SIGNED = "3: no host activates a closure without a fresh, signed manifest naming it; quarantines hold"
    WITHIN_LIMITS = "4: budgets, waves, halts and pauses are kept"
    VIEWS_ARE_THE_LOG = "5: the views equal those rebuilt from the log, and its chain holds"
    EVERYTHING_RESTS = "6: once faults end, every rollout settles"
    HISTORY_SURVIVES = "7: a destroyed database loses no history that an agent still has"
    NOTHING_OLDER = "8: no host obeys an older release, or runs what it rolled back from, without a new signed release"
    WHOLE_SOAK = "9: no host converges before the signed soak has passed on it, and a probe in it; no soak is longer"
    OWN_JOURNAL = "10: no answer overrides, or deletes from, a journal that has facts of its own"
    REQUESTS = "11: a request is carried out once, in its minute, and only for the host whose key signed it"
    ENROLLMENT = "12: a token enrolls one key of one host, once, and no host with a good token is turned away"
    NOTHING_OLDER_IN_FORCE = "13: no manifest or list replaces one that was signed later"
    TOLERANCE = "14: a wave halts, is done, or goes on as its hosts and its tolerance say, in whatever order"
    STANDINGS = (
        "15: a host counts otherwise only when a deadline, an operator or its own word says so"
    )
    COMES_HOME = "16: a host that its release cuts off comes home by itself, and no other fails for its silence"
    WARRANTS = "17: no machine moves without CI's signature, or an operator's warrant inside what CI signed"
    STEERING = "18: nothing begins against a window, a freeze or a hold, and no wave before its guards are satisfied"
    SEEN_IS_SO = "19: the counts of an overview are those that a walk over the hosts finds"
    TOLD_ONCE = (
        "20: a receiver that keeps ids gets each line of the log once, whenever the notifier dies"
    )
    ONE_WRITER = "21: of several control planes on one store, only the last that took the lease makes anything durable"
    FROM_MEMORY = "22: no control plane answers from memory once another one has taken the lease"
    TAKEN_OVER = (
        "23: while the store and a control plane work, one serves within the lease and two seconds"
    )
    NO_REFUSAL_OF_ITS_OWN = (
        "24: a leader is refused by the store only when another one took the lease"
    )
    HOST_MACHINE = "the host machine (docs/spec/host-machine.md, Transitions)"
    ROLLOUT_MACHINE = "the rollout machine (docs/spec/rollout-machine.md, Transitions)"
    PLANNER = "the planner and its gates (docs/spec/planner.md, Gates)"
    JOURNAL = "the journal has exactly the host's facts (docs/spec/runtimes.md, Journal)"
    NO_ENGINE_FAILS = "no engine raises on an input"


class Broken(NixfleetError):
    """A promise broke. Raised where it is detected, and caught at the end of the run."""

    def __init__(self, promise: Promise, found: str) -> None:
        super().__init__(promise, found)
        self.promise = promise
        self.found = found


@frozen
class PromiseBroken:
    """The promise that ended a run early, and when, in virtual time."""

    promise: Promise
    found: str
    moment: int

    def __str__(self) -> str:
        return f"{self.promise.value}: {self.found}"
