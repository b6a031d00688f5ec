"""Who may write and answer, when several control planes share a store: a model of its own, from what is seen outside.

It knows who took the lease, what the store made durable for whom, what was answered, and which processes work. It
compares no epochs and reads no lease: of a leadership it knows only who was the last that the store gave one to.
Source: docs/spec/leadership.md, What must hold.
"""

from collections.abc import Collection

from nixfleet_simulation.judge.promises import Broken, Promise


class LeadershipModel:
    """One shared store. takeover_seconds: within which one serves."""

    def __init__(self, takeover_seconds: float) -> None:
        self.checks = 0
        self.takes = 0
        self._takeover_seconds = takeover_seconds
        self._holder = ""
        self._unserved_since = 0.0
        self._working_since: dict[str, float] = {}

    def taken(self, process: str, now: float) -> None:
        """The store gave the lease to `process`. It may not hear of it, and that costs another lease. now: seconds."""
        self.takes += 1
        self._unserved_since = now
        self._holder = process

    def given_away(self, process: str) -> None:
        """The store took the lease back from `process`, which wanted that."""
        if self._holder == process:
            self._holder = ""

    def durable(self, process: str) -> None:
        """A commit of `process` became durable."""
        self.checks += 1
        if process != self._holder:
            found = (
                f"a commit of {process} is durable, and {self._holder or 'nobody'} has the lease"
            )
            raise Broken(Promise.ONE_WRITER, found)

    def answered(self, process: str, what: str) -> None:
        """`process` gave an answer from its memory."""
        self.checks += 1
        if process != self._holder:
            found = f"{process} answers {what}, and {self._holder or 'nobody'} has the lease"
            raise Broken(Promise.FROM_MEMORY, found)

    def refused(self, process: str) -> None:
        """The store refused a commit or a renewal of `process`."""
        self.checks += 1
        if process == self._holder:
            found = f"{process} is refused, and was the last that took the lease"
            raise Broken(Promise.NO_REFUSAL_OF_ITS_OWN, found)

    def looked(self, now: float, working: Collection[str], serving: Collection[str]) -> None:
        """Check that one serves. working: the processes that run and reach the store, which works. now: seconds.

        serving: those that answer. One that is cut off from the store may serve, until its lease is over.
        """
        self.checks += 1
        self._working_since = {each: self._working_since.get(each, now) for each in working}
        if self._holder in serving:
            self._unserved_since = now
        for process, since in self._working_since.items():
            lasted = now - max(since, self._unserved_since)
            if lasted > self._takeover_seconds:
                found = f"{process} works, and for {lasted:.1f} s none serves"
                raise Broken(Promise.TAKEN_OVER, found)
