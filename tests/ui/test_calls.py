"""Which calls of the control plane the page may make."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_ui import calls
from nixfleet_ui.calls import CallKind, kind_of

OPENAPI = json.loads(Path("docs/reference/openapi.json").read_text())
SPECIFICATION = Path("docs/spec/local-page.md").read_text()


def test_every_call_that_is_forwarded_is_one_of_the_api() -> None:
    """A call that the API does not have would be a name that means nothing."""
    known = {path.replace(name, "{}") for path in OPENAPI["paths"] for name in _names(path)}
    known |= {path for path in OPENAPI["paths"] if "{" not in path}
    wanted = {*calls.READS, *calls.COMMANDS, *calls.PREVIEWS}
    assert wanted <= known


def test_the_specification_lists_every_call_that_is_forwarded() -> None:
    """A reader learns from the list what the operator's key may sign for the page."""
    section = SPECIFICATION.partition("## What is forwarded")[2].partition("\n## ")[0]
    listed = section.partition("```text\n")[2].partition("```")[0].splitlines()
    reads = [f"GET  {path}" for path in calls.READS]
    assert listed == reads + [f"POST {path}" for path in (*calls.PREVIEWS, *calls.COMMANDS)]


def _names(path: str) -> list[str]:
    return [f"{{{part.partition('}')[0]}}}" for part in path.split("{")[1:]]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/agent/events"),
        ("GET", "/v1/agent/dispatch"),
        ("POST", "/v1/agent/heartbeat"),
        ("POST", "/v1/enroll"),
        ("POST", "/v1/rollouts/stable@r1/approvals"),
        ("POST", "/v1/rollouts/stable@r1/warrants"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/hosts/../agent/dispatch"),
        ("GET", "/v1/hosts/%2e%2e/explain"),
        ("GET", "/v1/hosts/%2E./explain"),
        ("GET", "/v1//hosts"),
        ("GET", "/v1/hosts/"),
        ("GET", "/v1/hosts/a/b/explain"),
        ("GET", "/v1/hosts/a b"),
        ("GET", "/v1/hosts/a\r\nX: y"),
        ("GET", "/v1/hosts?x"),
        ("GET", "/v1/hosts#x"),
        ("DELETE", "/v1/hosts"),
        ("GET", "/v1/rollouts/stable@r1/pause"),
        ("POST", "/v1/overview"),
    ],
)
def test_other_calls_end_in_the_process(method: str, path: str) -> None:
    """Those of hosts, those that need a signed statement, and paths that mean another one."""
    assert kind_of(method, path) is None


def test_a_command_is_told_from_what_only_reads() -> None:
    """A page that only shows may do the one and not the other."""
    assert kind_of("GET", "/v1/rollouts/stable@r%2F1/hosts") is CallKind.READ
    assert kind_of("POST", "/v1/rollouts/stable@r1/clear") is CallKind.COMMAND
    assert kind_of("POST", "/v1/channels/stable/quarantines/retire") is CallKind.COMMAND


@given(st.text(max_size=40), st.sampled_from(["GET", "POST"]))
def test_no_name_leads_to_another_call(name: str, method: str) -> None:
    """Whatever a name holds, it is one segment, or the call is not made."""
    if kind_of(method, f"/v1/hosts/{name}/explain") is not None:
        assert "/" not in name
        assert name.strip(".")
