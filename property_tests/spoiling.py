"""Parsed JSON that is not quite what it should be."""

from hypothesis import strategies as st

from nixfleet_proto.json_value import JsonValue

SPOILS = st.sampled_from(
    [None, True, 0, -1, 2**64, "", "x", "2026-05-16T01:00:00Z", [], {}, [0], {"kind": "x"}]
)


@st.composite
def spoiled(draw: st.DrawFn, value: JsonValue) -> JsonValue:
    """`value` with something else in one place of it, or nothing there."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 4)):
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: draw(spoiled(value[name]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [draw(spoiled(value[0])), *value[1:]]
    return draw(SPOILS)
