"""What looks like a secret does not get into the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_runtime.kernel.redacted import REDACTED, redacted


@pytest.mark.parametrize(
    "text",
    [
        "no answer from http://probe:hunter2@127.0.0.1/healthz",
        "no answer from https://hunter2@db/health",
        "500 from http://127.0.0.1/health?token=hunter2",
        "500 from http://127.0.0.1/health?a=1&access_token=hunter2&b=2",
        "500 from http://127.0.0.1/health?api-key=hunter2",
        "check --password hunter2 --host db",
        "check --password=hunter2",
        "PGPASSWORD=hunter2 psql",
        "Authorization: Bearer hunter2hunter2",
        '{"client_secret": "hunter2"}',
    ],
)
def test_a_secret_is_replaced_and_the_rest_stays(text: str) -> None:
    """In URLs, command lines, environments, headers and JSON."""
    safe = redacted(text)

    assert "hunter2" not in safe
    assert REDACTED in safe
    assert safe.split()[0].strip("{:") == text.split()[0].strip("{:") or "=" in text.split()[0]


@pytest.mark.parametrize(
    "text",
    [
        "expected status 200, found 500 from http://127.0.0.1:8080/healthz?deep=1",
        "expected a connection, found ConnectionRefusedError: [Errno 111] Connection refused",
        "mail to ops@example.org; token expired",
        "expected exit code 0, found 1: disk 95% full",
    ],
)
def test_a_text_without_a_secret_is_unchanged(text: str) -> None:
    """What an operator needs to read stays as it is."""
    assert redacted(text) == text


@given(st.lists(st.sampled_from([*"ab=:& ?/@-\"'", "token", "://", "bearer "])).map("".join))
def test_what_was_redacted_once_stays(text: str) -> None:
    """Twice is once: both the probe and the engine do it."""
    assert redacted(redacted(text)) == redacted(text)
