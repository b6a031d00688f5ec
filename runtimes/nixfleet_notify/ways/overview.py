"""Reads how the fleet stands, signed as an operator; what has not changed is not sent again.

Source: docs/spec/overview.md.
"""

from typing import Final

from nixfleet_notify.ways.feed import FeedSilent
from nixfleet_proto.codec import DecodeError
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.client import HttpSender, NoAnswer
from nixfleet_runtime.http.overview import OVERVIEW, Overview
from nixfleet_runtime.http.problem import decode_problem
from nixfleet_runtime.kernel.visible import visible

OVERVIEW_BYTES_MAX: Final = 16 * 1024 * 1024
_ETAG_LENGTH_MAX: Final = 200
_NOT_MODIFIED: Final = 304


class OverviewReader:
    """The overview of one control plane."""

    def __init__(self, client: HttpSender) -> None:
        self._client = client
        self._last: tuple[str, Overview] | None = None

    async def overview(self) -> Overview:
        """Return how the fleet stands. Raises: FeedSilent."""
        last = self._last
        try:
            answer = await self._client.send(
                "GET",
                paths.OVERVIEW,
                etag=None if last is None else last[0],
                answer_bytes_max=OVERVIEW_BYTES_MAX,
            )
        except NoAnswer as error:
            raise FeedSilent(visible(error.problem)) from error
        if last is not None and answer.status_code == _NOT_MODIFIED:
            return last[1]
        if not answer.is_success:
            problem = decode_problem(answer.content, answer.status_code)
            said = ": ".join(filter(None, (problem.title, problem.detail)))
            raise FeedSilent(visible(f"it refuses to show its overview ({problem.status}): {said}"))
        try:
            found = OVERVIEW.decode(answer.content)
        except DecodeError as error:
            raise FeedSilent(visible(f"its overview cannot be decoded: {error}")) from error
        etag = answer.headers.get("ETag", "")
        is_fit = 0 < len(etag) <= _ETAG_LENGTH_MAX and etag.isascii() and etag.isprintable()
        self._last = (etag, found) if is_fit else None
        return found
