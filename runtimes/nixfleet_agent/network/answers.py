"""What an answer that is no result means to a caller, and how long one may take. Pure, for every transport."""

from nixfleet_agent.network.enrollment import EnrollmentRefused
from nixfleet_runtime.http.problem import HttpProblem
from nixfleet_runtime.transport import ANSWER_SECONDS_MAX, TransportFailed

_ASK_AGAIN = frozenset({408, 425, 429})


def failure_of(problem: HttpProblem, retry_after_seconds: float | None = None) -> TransportFailed:
    """Return the failure of a request that was answered with `problem`."""
    text = f"{problem.status} {problem.title}: {problem.detail}"
    return TransportFailed(
        text, retry_after_seconds, f"{problem.status} {problem.type}", was_answered=True
    )


def enrollment_failure(
    problem: HttpProblem, retry_after_seconds: float | None = None
) -> EnrollmentRefused | TransportFailed:
    """Return the failure of an enrollment that was answered with `problem`: refused, or only not answered yet."""
    if 400 <= problem.status < 500 and problem.status not in _ASK_AGAIN:
        return EnrollmentRefused(problem)
    return failure_of(problem, retry_after_seconds)


def poll_seconds_max(wait_seconds: float) -> float:
    """Return how long the answer to a poll may take that waits up to `wait_seconds`."""
    return wait_seconds + ANSWER_SECONDS_MAX
