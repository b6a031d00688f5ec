"""`nixfleet operator log --follow`: which pages are shown, and that no control plane is asked without a pause."""

from typing import TypeVar, cast

from attrs import Factory, define

from nixfleet_cli.commands.operator_log import PAUSE_SECONDS, pages
from nixfleet_cli.commands.steering.session import Session
from nixfleet_proto.codec.strict import Coder
from nixfleet_runtime.http.listings import FEED_PAGE, FeedPage
from tests.watch.samples import line

T = TypeVar("T")


class Over(Exception):
    """The control plane of the test has no more answers."""


@define
class Answers:
    """A session that gives these pages, one after the other."""

    left: list[FeedPage]
    asked: list[str] = Factory(list[str])

    def read(self, path: str, coder: Coder[T]) -> T:
        if not self.left:
            raise Over
        self.asked.append(path)
        return coder.decode(FEED_PAGE.encode(self.left.pop(0)))


def followed(*answers: FeedPage) -> tuple[list[int], list[float], list[str]]:
    """What is shown, for how long is paused, and what is asked, until there are no more answers."""
    session, shown, pauses = Answers(list(answers)), list[int](), list[float]()
    try:
        for page in pages(cast(Session, session), {}, 7, follows=True, pause=pauses.append):
            shown += [each.seq for each in page.events]
    except Over:
        return shown, pauses, session.asked
    raise AssertionError("it follows without end")


def test_a_control_plane_that_answers_at_once_with_nothing_is_not_asked_without_a_pause() -> None:
    """As one does that is about to end, or one that ignores the wait."""
    _, pauses, asked = followed(*[FeedPage((), 7, 7)] * 3)
    assert pauses == [PAUSE_SECONDS] * 3
    assert len(asked) == 3


def test_pages_of_rows_that_were_read_follow_each_other_without_a_pause() -> None:
    """Of a filter, many have no lines."""
    shown, pauses, asked = followed(FeedPage((), 500, 900), FeedPage((line(900),), 900, 900))
    assert (shown, pauses) == ([900], [])
    assert "after=500" in asked[1]
