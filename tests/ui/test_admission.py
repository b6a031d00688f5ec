"""Which requests of a browser the page's process takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_ui.admission import TOKEN_HEADER, Admission, Refused

TOKEN = "t" * 43
ADMISSION = Admission(40123, TOKEN)
OWN = {
    "host": "127.0.0.1:40123",
    "origin": "http://127.0.0.1:40123",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "cors",
    "content-type": "application/json",
    TOKEN_HEADER: TOKEN,
}


def _call(method: str = "POST", **changed: str | None) -> Refused | None:
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    headers = {**OWN, **named}
    raw = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
    return ADMISSION.refusal_of_call(method, raw)


def _page(path: str = "/", method: str = "GET", **changed: str) -> Refused | None:
    headers = {"host": OWN["host"], **{n.replace("_", "-"): v for n, v in changed.items()}}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return ADMISSION.refusal_of_page(method, path, raw)


def test_a_call_of_the_page_is_taken() -> None:
    """It has the secret, and the browser says that the page sent it; a GET may come without Origin."""
    assert _call() is None
    assert _call("GET", origin=None) is None


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example:40123",
        "localhost:40123",
        "127.0.0.1",
        "127.0.0.1:40124",
        "127.0.0.1:40123.attacker.example",
        "127.0.0.1:40123@attacker.example",
        "[::1]:40123",
        "127.1:40123",
        "",
        None,
    ],
)
def test_a_name_that_was_rebound_to_loopback_is_refused(host: str | None) -> None:
    """Only the exact address is a Host, for calls and for files."""
    refused = _call(host=host)
    assert refused is not None
    assert refused.status == 421
    assert host is None or _page(host=host) is not None


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"origin": "http://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": None}, 403),
        ({"origin": "http://localhost:40123"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "none"}, 403),
        ({"sec_fetch_site": None}, 403),
        ({"sec_fetch_mode": "navigate"}, 403),
        ({"sec_fetch_mode": "no-cors"}, 403),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": "text/plain"}, 415),
        ({TOKEN_HEADER: None}, 401),
        ({TOKEN_HEADER: "u" * 43}, 401),
        ({TOKEN_HEADER: ""}, 401),
        ({TOKEN_HEADER: TOKEN + "t"}, 401),
    ],
)
def test_each_sign_of_another_sender_alone_refuses_a_call(
    changed: dict[str, str | None], status: int
) -> None:
    """Another origin, a form, a frame, no secret or another one: whatever else is right."""
    refused = _call("POST", **changed)
    assert refused is not None
    assert refused.status == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "get", ""])
def test_other_methods_are_refused(method: str) -> None:
    """A preflight is answered with no permission."""
    refused = _call(method)
    assert refused is not None
    assert refused.status == 405


@pytest.mark.parametrize("name", ["host", "origin", "sec-fetch-site", TOKEN_HEADER])
def test_a_header_that_is_there_twice_is_refused(name: str) -> None:
    """Else it would depend on the reader which one counts."""
    raw = [(key.encode(), value.encode()) for key, value in OWN.items()]
    refused = ADMISSION.refusal_of_call("POST", [*raw, (name.encode(), OWN[name].encode())])
    assert refused is not None
    assert refused.status == 400


@pytest.mark.parametrize("dest", ["iframe", "frame", "embed", "object", "script", "image", "empty"])
def test_the_document_is_given_to_no_frame(dest: str) -> None:
    """It is a document of its own, or nothing."""
    assert _page(sec_fetch_dest=dest) is not None


def test_the_document_may_be_opened_from_the_redirect_file() -> None:
    """A file's page is another site to a browser."""
    assert _page(sec_fetch_dest="document", sec_fetch_site="cross-site") is None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_what_belongs_to_the_document_is_given_to_it_alone(site: str) -> None:
    """No other page includes our modules."""
    assert _page("/main.js", sec_fetch_site=site) is not None
    assert _page("/main.js", sec_fetch_site="same-origin") is None


_VALUES = st.one_of(st.text(max_size=60), st.sampled_from([*OWN.values(), "null", "*"]))


@given(
    st.dictionaries(st.sampled_from([*OWN, "x-forwarded-host", "forwarded"]), _VALUES),
    st.sampled_from(["GET", "POST", "PUT", ""]),
)
def test_nothing_is_taken_without_all_signs_of_the_page(
    headers: dict[str, str], method: str
) -> None:
    """Whatever headers come: a call is taken only with the exact Host, the secret, and the browser's word."""
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    if ADMISSION.refusal_of_call(method, raw) is None:
        assert headers["host"] == OWN["host"]
        assert headers[TOKEN_HEADER] == TOKEN
        assert headers["sec-fetch-site"] == "same-origin"
        assert headers.get("origin", OWN["origin"]) == OWN["origin"]
