"""What a process that shares its store answers: the leader's application, and otherwise a standby's words."""

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from nixfleet_control_plane.http.answers import standing_by
from nixfleet_control_plane.leadership.decision import Following, Leadership
from nixfleet_control_plane.leadership.front import Front

pytestmark = pytest.mark.anyio


class Part:
    """What a front asks of a participant. leader_url: as another process wrote it."""

    def __init__(self, leader_url: str) -> None:
        self.leader_url = leader_url
        self.leadership: Leadership = Following(is_warm=True)
        self.epoch = 7
        self.terms_begun = 2

    def may_answer(self) -> bool:
        """It follows."""
        return False


class Term:
    """A leader's application; is_current: until it is asked `during` times."""

    def __init__(self, current_for: int) -> None:
        self.left = current_for
        self.app = Starlette(
            routes=[
                Route("/page", self.answer, methods=["GET", "POST"]),
                Route("/healthz", self.answer),
                Route("/readyz", self.answer),
            ]
        )

    async def answer(self, request: Request) -> Response:
        """What a leader knows."""
        return PlainTextResponse("led", headers={"X-Led": "yes"})

    def is_current(self) -> bool:
        """Return whether it may still answer."""
        self.left -= 1
        return self.left >= 0


def _front(leader_url: str = "https://leader") -> Front:
    front = Front(("nixfleet 1",))
    front.participant = Part(leader_url)
    return front


async def _asked(front: Front, method: str, path: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(front)
    async with httpx2.AsyncClient(transport=transport, base_url="http://fleet") as client:
        return await client.request(method, path)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_standby_refuses_every_call_and_names_the_leader(method: str) -> None:
    """Whatever the method, and whether there is such a path or not."""
    refused = await _asked(_front(), method, "/page")
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:nixfleet:problem:standby"
    assert refused.json()["leader"] == refused.headers["X-Nixfleet-Leader"] == "https://leader"


async def test_a_standby_is_healthy_and_not_ready() -> None:
    """Both say whose standby it is, and it has metrics."""
    front = _front()
    health = await _asked(front, "GET", "/healthz")
    assert health.text.splitlines() == ["ok", "nixfleet 1", "standby of https://leader"]
    ready = await _asked(front, "GET", "/readyz")
    assert ready.status_code == 503
    assert ready.json()["detail"] == "standby of https://leader"
    metrics = (await _asked(front, "GET", "/metrics")).text
    for line in ("nixfleet_leader 0.0", "nixfleet_leader_epoch 7.0", "nixfleet_takeovers 2.0"):
        assert line in metrics


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/page"), ("POST", "/page"), ("GET", "/readyz")]
)
async def test_a_leader_that_may_answer_does(method: str, path: str) -> None:
    """Before the request and when the answer begins."""
    front, term = _front(), Term(2)
    with front.serving(term.app, term.is_current, lambda _: None):
        assert (await _asked(front, method, path)).text == "led"


async def test_a_leader_that_may_not_answer_sends_nothing_of_its_memory() -> None:
    """Not even a page that was made while it might: only what says nothing of the fleet."""
    for current_for, method in ((0, "GET"), (0, "POST"), (1, "GET")):
        front, term = _front(), Term(current_for)
        with front.serving(term.app, term.is_current, lambda _: None):
            refused = await _asked(front, method, "/page")
            assert refused.status_code == 503
            assert "X-Led" not in refused.headers
            assert refused.json()["type"] == "urn:nixfleet:problem:standby"
            assert (await _asked(front, "GET", "/healthz")).text == "led"


async def test_what_was_done_is_answered_even_if_another_one_leads_by_now() -> None:
    """A command that is in the log is there; its sender must not send it again."""
    front, term = _front(), Term(1)
    with front.serving(term.app, term.is_current, lambda _: None):
        assert (await _asked(front, "POST", "/page")).text == "led"


async def test_a_term_that_ended_answers_no_more() -> None:
    """Its application is not asked again."""
    front, term = _front(), Term(10)
    with front.serving(term.app, term.is_current, lambda _: None):
        pass
    assert (await _asked(front, "GET", "/page")).status_code == 503


@pytest.mark.parametrize(
    "url",
    ["", "javascript:alert(1)", "https://a\r\nSet-Cookie: b", "https://ä", "https://" + "a" * 400],
)
def test_a_url_that_does_not_fit_into_a_header_is_left_out(url: str) -> None:
    """It is another process's word."""
    refusal = standing_by("standby", url)
    assert dict(refusal.headers) == {"Retry-After": "1"}
    assert "leader" not in refusal.problem.extensions
