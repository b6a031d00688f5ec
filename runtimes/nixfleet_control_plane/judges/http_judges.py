"""The two judges that come with nixfleet: Prometheus, and any server with a JSON body. Thin: one bounded request.

What an answer means is decided by `answers`.
Source: docs/spec/guards.md, Judges.
"""

from collections.abc import Mapping
from ssl import SSLContext
from typing import Final

import anyio
import httpx2
from attrs import frozen

from nixfleet_control_plane.config_judges import JudgeConfig, JudgeKind
from nixfleet_control_plane.judges.answers import http_answer, prometheus_answer, shown
from nixfleet_control_plane.judges.judge import Answer, Judge, Question, unclear
from nixfleet_runtime.http.client import tls_context
from nixfleet_runtime.http.unreachable import why_no_response
from nixfleet_runtime.storage.regular_file import read_regular_file

ANSWER_BYTES_MAX: Final = 64 * 1024


class _NoAnswer(Exception):
    """No complete answer within the bounds; the text says why."""


@frozen
class PrometheusJudge:
    """Asks a Prometheus server an instant query."""

    config: JudgeConfig

    async def ask(self, question: Question) -> Answer:
        """Return the comparison of the only sample."""
        url = f"{self.config.url.rstrip('/')}/api/v1/query"
        try:
            status, body = await _asked(self.config, url, {"query": question.check.query})
        except _NoAnswer as error:
            return unclear(str(error))
        return prometheus_answer(status, body, question.check.comparison)


@frozen
class HttpJudge:
    """Asks a server which rollout and wave it judges; the query of the check names a field of its JSON body."""

    config: JudgeConfig

    async def ask(self, question: Question) -> Answer:
        """Return the comparison of the field."""
        about = {
            "rollout": question.rollout_id,
            "channel": question.rollout_id.channel,
            "ref": question.rollout_id.channel_ref,
            "wave": str(question.wave),
            "check": question.check.name,
        }
        try:
            status, body = await _asked(self.config, self.config.url, about)
        except _NoAnswer as error:
            return unclear(str(error))
        return http_answer(status, body, question.check.query, question.check.comparison)


def judge_of(config: JudgeConfig) -> Judge:
    """Return the judge that is configured."""
    return PrometheusJudge(config) if config.kind is JudgeKind.PROMETHEUS else HttpJudge(config)


async def _asked(config: JudgeConfig, url: str, parameters: Mapping[str, str]) -> tuple[int, bytes]:
    """Return status and body. Raises: _NoAnswer."""
    try:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **_token(config)}
        tls: SSLContext | bool = tls_context(config.ca_certificate_file)
        with anyio.fail_after(config.timeout_seconds):
            # Proxies from the environment are ignored, and a redirect is another status than 200.
            async with httpx2.AsyncClient(verify=tls, trust_env=False) as client:
                return await _streamed(client, url, parameters, headers)
    except TimeoutError:
        raise _NoAnswer(f"expected an answer within {config.timeout_seconds:g} s") from None
    except httpx2.HTTPError as error:
        raise _NoAnswer(shown(why_no_response(error, url, "the judge"))) from error
    except (OSError, UnicodeError) as error:
        raise _NoAnswer(shown(error)) from error


async def _streamed(
    client: httpx2.AsyncClient, url: str, parameters: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[int, bytes]:
    streaming = client.stream("GET", url, params=parameters, headers=headers, timeout=None)
    async with streaming as answer:
        content = bytearray()
        async for chunk in answer.aiter_raw():
            content += chunk
            if len(content) > ANSWER_BYTES_MAX:
                raise _NoAnswer(f"expected an answer of at most {ANSWER_BYTES_MAX} bytes")
        return answer.status_code, bytes(content)


def _token(config: JudgeConfig) -> Mapping[str, str]:
    """Read at each question, so that a token can be replaced without a restart."""
    if config.token_file is None:
        return {}
    token = read_regular_file(config.token_file).decode("ascii").strip()
    return {"Authorization": f"Bearer {token}"}
