"""Whatever a host reports, its agent's log has it in bounded lines, which no text forges, and says nothing twice."""

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_agent.messages.writes import AppendEvent
from nixfleet_agent.narration import LINE_LENGTH_MAX, Narrator
from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.ids import RolloutId
from nixfleet_testing.contracts.histories import T0
from nixfleet_testing.strategies import facts

ROLLOUT = RolloutId("stable@r1")


@given(st.lists(facts()))
def test_each_fact_has_at_most_one_line_that_can_be_seen(lived: list[AgentEvent]) -> None:
    """Escaped and bounded, whatever is in it; the same result of a probe has no second one."""
    narrator = Narrator(())
    for fact in lived:
        lines = list(narrator.lines([AppendEvent(ROLLOUT, fact, T0)]))
        assert len(lines) <= 1
        for line in lines:
            assert line.text.isprintable()
            assert line.text.startswith(f"{ROLLOUT}: ")
            assert len(line.text) <= LINE_LENGTH_MAX
