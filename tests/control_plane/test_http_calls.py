"""Every call that there is, by its definition: who may make it, and that the document says what is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from nixfleet_cli.main import main
from nixfleet_control_plane.http.app import ALL_CALLS
from nixfleet_control_plane.http.calls import Call, Caller
from tests.support.served_control_plane import READER_KEY, Site, signed, site_with

pytestmark = pytest.mark.anyio

WRITTEN = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
# Whoever wants to enroll brings in the body the key that it is signed with, so the body is read first.
SIGNED = [call for call in ALL_CALLS if call.caller not in (Caller.ANYBODY, Caller.ENROLLING_HOST)]


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One control plane for all: who may not ask changes nothing."""
    async with site_with(tmp_path_factory.mktemp("site")) as made:
        await made.publish()
        yield made


def path_of(call: Call[Any]) -> str:
    return call.path.format(rollout_id="stable@r1", channel="stable", hostname="web-01")


def names(call: Call[Any]) -> str:
    return f"{call.method} {call.path}"


@pytest.mark.parametrize("call", SIGNED, ids=names)
async def test_a_call_without_a_signature_is_refused(call: Call[Any], site: Site) -> None:
    """401 for all but the calls that are open to anybody."""
    answer = await site.ask(call.method, path_of(call))
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:nixfleet:problem:not-signed")


@pytest.mark.parametrize("call", SIGNED, ids=names)
async def test_a_call_is_refused_to_those_it_is_not_for(call: Call[Any], site: Site) -> None:
    """A host is no operator, an operator no host, and who may read may not command."""
    path = path_of(call)
    match call.caller:
        case Caller.HOST:
            answer = await site.operate(call.method, path)
            assert answer.status_code == 403
            assert answer.json()["detail"].startswith("expected a key of hosts, found")
        case Caller.READER | Caller.OPERATOR:
            answer = await site.ask(call.method, path, b"", signed(call.method, path))
            assert answer.status_code == 403
            assert answer.json()["detail"].startswith("expected a key of operators, found")
        case _:
            pytest.skip("whoever signs with the key that is brought")
    if call.caller is Caller.OPERATOR:
        answer = await site.operate(call.method, path, name="bob", key=READER_KEY)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:nixfleet:problem:role")


async def test_the_document_is_served_as_it_is_written_down(site: Site) -> None:
    """docs/reference/openapi.json is what `nixfleet openapi` prints, and what a control plane says of itself."""
    printed = CliRunner().invoke(main, ["openapi"], catch_exceptions=False).stdout_bytes
    assert (await site.ask("GET", "/openapi.json")).content == printed
    assert WRITTEN.read_bytes() == printed, (
        "write it down again: .venv/bin/nixfleet openapi > docs/reference/openapi.json"
    )


def test_the_document_has_every_call() -> None:
    """By path and method, each with a name of its own and a sentence."""
    paths = orjson.loads(WRITTEN.read_bytes())["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {(call.method, call.path) for call in ALL_CALLS}
    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(ALL_CALLS)
    assert all(operation["summary"] for operation in operations)
