"""Reports to the engine, at regular intervals, the running closure and that time has passed. Sans I/O."""

from nixfleet_agent.messages.inputs import RunningClosureSeen, Tick
from nixfleet_agent.workers.posting import RetryingPost
from nixfleet_agent.workers.steps import Lock, ReadRunningClosure, ReadUnsentRollouts, Wait, Work


class TickWorker:
    """The tick. at_rest: see `IntentWorker`."""

    def __init__(self, tick_seconds: float, at_rest: Lock, post: RetryingPost) -> None:
        self._tick_seconds = tick_seconds
        self._at_rest = at_rest
        self._post = post

    def run(self) -> Work:
        """Tick without end."""
        while True:
            yield from Wait(self._tick_seconds)
            yield from self._observe_running_closure()
            unsent = yield from ReadUnsentRollouts()
            yield from self._post.try_once(Tick(unsent))

    def _observe_running_closure(self) -> Work:
        if not self._at_rest.acquire_now():
            return  # A switch is under way; its worker reports the outcome.
        try:
            running = yield from ReadRunningClosure()
            yield from self._post.try_once(RunningClosureSeen(running))
        finally:
            self._at_rest.release()
