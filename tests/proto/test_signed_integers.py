"""Statements that people sign are written again in their canonical form, so no integer in one may be without.

Artefacts are verified as the bytes that they are, and refused there: see tests/proto/test_signing_artefacts.py.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from nixfleet_proto.codec import DecodeError
from nixfleet_proto.codec.approval import SIGNED_APPROVAL, decode_approval, encode_approval
from nixfleet_proto.codec.enrollment import decode_signed_token, encode_signed_token
from nixfleet_proto.codec.json_text import INTEGER_MAX
from nixfleet_proto.codec.warrant import decode_signed_warrant, encode_signed_warrant
from nixfleet_proto.enrollment import BootstrapToken, SignedToken
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.approval import WAVE_MAX, Approval, Decision, SignedApproval
from nixfleet_proto.steering.warrant import ClosureRule, SignedWarrant, Warrant

T0 = datetime(2026, 5, 16, 1, tzinfo=UTC)
R1 = RolloutId("stable@r1")
APPROVAL = Approval(R1, 1, "00", "ada", Decision.APPROVE, "looks good", T0)
WARRANT = Warrant("1", R1, ClosureRule.PRIOR, "ada", "it eats disks", T0, T0 + timedelta(hours=1))

SIGNED: dict[str, tuple[bytes, Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    "approval": (encode_approval(APPROVAL), decode_approval, encode_approval),
    "signed approval": (
        SIGNED_APPROVAL.encode_canonical(SignedApproval(APPROVAL, "00")),
        SIGNED_APPROVAL.decode,
        SIGNED_APPROVAL.encode_canonical,
    ),
    "warrant": (
        encode_signed_warrant(SignedWarrant(WARRANT, "00")),
        decode_signed_warrant,
        encode_signed_warrant,
    ),
    "token": (
        encode_signed_token(SignedToken(BootstrapToken("web-01", "00", T0, T0, "n"), "00")),
        decode_signed_token,
        encode_signed_token,
    ),
}


def _with_integer(value: Any, number: int) -> Iterator[Any]:
    """Yield `value` with `number` in place of each of its integers, one at a time."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            for inner in _with_integer(value[key], number):
                changed = deepcopy(value)
                changed[key] = inner
                yield changed
    elif isinstance(value, int) and not isinstance(value, bool):
        yield number


@pytest.mark.parametrize("what", SIGNED)
@pytest.mark.parametrize("number", [INTEGER_MAX + 1, 2**63, 2**64 - 1])
def test_an_integer_without_a_canonical_form_is_refused_where_it_is_read(
    what: str, number: int
) -> None:
    """Not where the signature is checked: there it would be an error of ours."""
    data, decode, encode = SIGNED[what]
    assert encode(decode(data)) == data
    for changed in _with_integer(orjson.loads(data), number):
        with pytest.raises(DecodeError):
            decode(orjson.dumps(changed))


def test_a_statement_names_a_wave_that_can_be() -> None:
    """The same limit as in the text of a hold's scope."""
    data = encode_approval(APPROVAL)
    assert decode_approval(data.replace(b'"wave":1', b'"wave":%d' % WAVE_MAX)).wave == WAVE_MAX
    with pytest.raises(DecodeError, match="999999 or less"):
        decode_approval(data.replace(b'"wave":1', b'"wave":%d' % (WAVE_MAX + 1)))
