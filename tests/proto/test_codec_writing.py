"""How records are written: every field in its place, and what stands for those that have nothing to say."""

import pytest
from attrs import field, frozen

from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.frozen_map import FrozenMap


@frozen
class Report:
    host_name: str
    reason: str | None = None
    mode: ProbeMode = ProbeMode.ENFORCE
    counts: FrozenMap[str, int] = field(factory=lambda: FrozenMap[str, int]())
    seq: int = field(kw_only=True)


NOTHING_TO_SAY = Report("web-01", seq=1)
MUCH_TO_SAY = Report("web-01", "slow", ProbeMode.OBSERVE, FrozenMap({"tries": 3}), seq=1)


@pytest.mark.parametrize(
    ("absent", "written"),
    [
        (Absent.AS_NULL, b'"reason":null,"mode":"enforce","counts":{},'),
        (Absent.LEFT_OUT, b'"mode":"enforce","counts":{},'),
        (Absent.LEFT_OUT_AS_ANY_DEFAULT, b""),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_has_its_default_is_written_or_left_out_as_the_spelling_has_it(
    absent: Absent, written: bytes
) -> None:
    """Null for nothing, nothing for nothing, or nothing for any default; the rest keeps its place."""
    coder = Coder[Report](Spelling(camel_case, absent), Report, "report")

    assert coder.encode(NOTHING_TO_SAY) == b'{"hostName":"web-01",' + written + b'"seq":1}'


@pytest.mark.parametrize("absent", Absent)
def test_what_is_not_its_default_is_always_written(absent: Absent) -> None:
    """In the order of the type, whatever is left out of others."""
    coder = Coder[Report](Spelling(camel_case, absent), Report, "report")

    assert coder.encode(MUCH_TO_SAY) == (
        b'{"hostName":"web-01","reason":"slow","mode":"observe","counts":{"tries":3},"seq":1}'
    )
