"""One fact through the host machine: a record and a fact in, the next record and the orders out."""

from datetime import UTC, datetime

from nixfleet import DispatchAck, HostRolloutState, Local, RolloutId, RolloutPolicy, step

now = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
web_01 = HostRolloutState.pending(
    RolloutId("stable@a1b2c3"),
    "web-01",
    "stable",
    "new-closure",
    dispatched_at=now,
    soak_due_at=now,
)
acknowledged = DispatchAck(current_closure_at_dispatch="old-closure", received_at=now, seq=1)

web_01, effects = step(web_01, Local(acknowledged), now, RolloutPolicy())

print(web_01.state)
for effect in effects:
    print(" ", type(effect).__name__)
