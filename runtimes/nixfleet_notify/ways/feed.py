"""Reads the log of a control plane, page by page, signed as an operator.

Source: docs/spec/wire.md, The feed.
"""

from typing import Final
from urllib.parse import urlencode

from nixfleet_proto.codec import DecodeError
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.client import HttpSender, NoAnswer
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.listings import FEED_PAGE, FeedPage
from nixfleet_runtime.http.problem import TYPE_PREFIX, decode_problem
from nixfleet_runtime.kernel.visible import visible
from nixfleet_runtime.transport import ANSWER_SECONDS_MAX

PAGE_LINES: Final = 200
PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
_TOO_LARGE: Final = "AnswerTooLarge"
_LOG_SHORTER: Final = f"{TYPE_PREFIX}log-shorter"


class FeedSilent(NixfleetError):
    """No page came. problem: why, in words."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class LogShorter(NixfleetError):
    """The log has no such row: it is another log than before."""

    def __init__(self, after: int) -> None:
        super().__init__(after)
        self.after = after

    def __str__(self) -> str:
        return f"expected a log with row {self.after}, found a shorter one"


class Feed:
    """The log of one control plane. least: of which severity lines are asked for."""

    def __init__(self, client: HttpSender, least: Severity) -> None:
        self._client = client
        self._least = least
        self._lines = PAGE_LINES

    async def page(self, after: int, *, wait_seconds: int = 0) -> FeedPage:
        """Return what follows row `after`, if need be after `wait_seconds`. Raises: FeedSilent, LogShorter."""
        return await self._asked(after, wait_seconds, {"severity": str(self._least)})

    async def row(self, seq: int) -> FeedPage:
        """Return a page that begins with the lines of row `seq`, of any severity. Raises: FeedSilent, LogShorter."""
        return await self._asked(seq - 1, 0, {"limit": "1"})

    async def _asked(self, after: int, wait_seconds: int, choice: dict[str, str]) -> FeedPage:
        query = urlencode({"after": after, "limit": self._lines, "wait": wait_seconds, **choice})
        try:
            answer = await self._client.send(
                "GET",
                f"{paths.LOG}?{query}",
                answer_seconds_max=ANSWER_SECONDS_MAX + wait_seconds,
                answer_bytes_max=PAGE_BYTES_MAX,
            )
        except NoAnswer as error:
            if error.kind == _TOO_LARGE:
                self._lines = max(1, self._lines // 2)
            raise FeedSilent(visible(error.problem)) from error
        if not answer.is_success:
            problem = decode_problem(answer.content, answer.status_code)
            if problem.type == _LOG_SHORTER:
                raise LogShorter(after)
            said = ": ".join(filter(None, (problem.title, problem.detail)))
            raise FeedSilent(visible(f"it refuses to show its log ({problem.status}): {said}"))
        try:
            page = FEED_PAGE.decode(answer.content)
        except DecodeError as error:
            raise FeedSilent(visible(f"its answer cannot be decoded: {error}")) from error
        if any(line.type is None for line in page.events):
            raise FeedSilent("it is too old: expected lines of the log with a type, found none")
        if page.next < after or any(line.seq <= after for line in page.events):
            raise FeedSilent("its answer goes back in the log")
        if page.next == after and page.head > after and page.begins is None:
            raise FeedSilent("its answer does not go on in the log")
        self._lines = min(PAGE_LINES, self._lines * 2)
        return page
