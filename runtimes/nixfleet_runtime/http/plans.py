"""A release that is not published, as it is sent to be planned: `POST /v1/plan`. Its artefacts, unsigned.

Source: docs/spec/forecast.md, Plans.
"""

from itertools import islice
from typing import Final

from attrs import frozen

from nixfleet_proto.codec import decode_fleet, decode_manifest
from nixfleet_proto.codec.problem import PROBLEMS_LOOKED_FOR, DecodeError, DecodeProblem
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.json_value import JsonValue
from nixfleet_runtime.http.request_limits import RequestCoder

MANIFESTS_MAX: Final = 256


@frozen
class PlanBody:
    """The artefacts of a release, each the text of its file: the resolved fleet, and the manifests of its rollouts."""

    fleet: str
    manifests: tuple[str, ...]


class _PlanCoder(RequestCoder[PlanBody]):
    """Reads the body, and leaves its artefacts as they are (`require_artefacts`)."""

    def of_json(self, parsed: JsonValue) -> PlanBody:
        """Return the value that `parsed` spells. Raises: DecodeError."""
        body = Coder.of_json(self, parsed)
        count = len(body.manifests)
        if count > MANIFESTS_MAX:
            expected = f"at most {MANIFESTS_MAX} items"
            raise DecodeError(self.what, (DecodeProblem("$.manifests", expected, f"{count}"),))
        return body


def require_artefacts(body: PlanBody) -> None:
    """Return if a fleet and manifests can be read, as strictly as published ones. Raises: DecodeError."""
    problems: list[DecodeProblem] = []
    for path, text, decode in (
        ("$.fleet", body.fleet, decode_fleet),
        *((f"$.manifests[{at}]", it, decode_manifest) for at, it in enumerate(body.manifests)),
    ):
        try:
            decode(text.encode())
        except DecodeError as error:
            problems += (
                DecodeProblem(f"{path}: {it.path}", it.expected, it.found) for it in error.problems
            )
    if problems:
        raise DecodeError("release", tuple(islice(problems, PROBLEMS_LOOKED_FOR)))


PLAN_BODY: Final = _PlanCoder(Spelling(camel_case, Absent.LEFT_OUT), PlanBody, "plan")
