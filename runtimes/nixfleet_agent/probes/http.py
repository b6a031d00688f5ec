"""Runs http probes: one GET, judged by its status and, optionally, its body.

httpx2, of the `http` extra: a total time limit needs a client that can be cancelled, and the
standard library's limits each read alone, so a server that answers a byte at a time holds a thread
for hours. An agent that reports over HTTP has the extra installed in any case.
A redirect is an answer with its own status and is not followed: a check names the address that must
answer, and a service that redirects must not pass because another one is healthy.
"""

import ssl
from functools import cache
from typing import Final

import anyio
import httpx2

from nixfleet_agent.probes.runner import PASSED, ProbeOutcome, described, failed
from nixfleet_proto.health_check import HttpProbe

BODY_BYTES_MAX: Final = 1024 * 1024
"""The part of a body that is searched."""


async def run_http_probe(check: HttpProbe) -> ProbeOutcome:
    """GET the check's URL once: no redirect, no proxy, no cookie, no second try."""
    try:
        with anyio.fail_after(check.timeout_secs):
            return await _ask(check)
    except TimeoutError:
        return failed(
            f"status {check.expect_status} within {check.timeout_secs} s",
            f"no complete answer from {check.url}",
        )
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return failed(f"status {check.expect_status}", f"{described(error)} from {check.url}")


async def _ask(check: HttpProbe) -> ProbeOutcome:
    # Environment variables must not send a probe through a proxy that answers in its place.
    async with (
        httpx2.AsyncClient(verify=_tls_context(), timeout=None, trust_env=False) as client,
        client.stream("GET", check.url, headers={"accept-encoding": "identity"}) as response,
    ):
        if response.status_code != check.expect_status:
            return failed(
                f"status {check.expect_status}", f"{response.status_code} from {check.url}"
            )
        if check.body_contains is None:
            return PASSED
        body = await _body_of(response)
    if check.body_contains.encode() in body:
        return PASSED
    return failed(
        f"a body that contains {check.body_contains!r}",
        f"{len(body)} bytes without it from {check.url}",
    )


async def _body_of(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk[: BODY_BYTES_MAX - len(body)]
        if len(body) == BODY_BYTES_MAX:
            break
    return bytes(body)


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the system's certificate authorities; cached, since loading them costs more than a probe."""
    return ssl.create_default_context()
