"""Model checking of the real reducers: every interleaving of a bounded world, and the laws that hold in each.

    python -m nixfleet_testing.explore --hosts 3 --waves 2 --pause --clear

A world is each agent's facts, and those that the control plane has received: records, rollouts, queue,
quarantines, pauses. Hosts, their machines, the wire, CI and operators move it, each whenever it can; all decisions
are those of `step` (`Local` on the agent, `Remote` on the control plane), `step_rollout`, `open_rollout`,
`due_rollout_events`, `plan_next` and `replan`, unless a `ReducerSet` with others is explored.

What is left out changes nothing that a law can see:

- A lost post is a fact that stays on the way; a lost answer, and a late duplicate, a fact that comes again. That any
  fact that was heard may come again, and changes nothing, is judged wherever a host's mirror is a new one.
- An agent takes a dispatch and acknowledges it in one move. The control plane can turn in between, but it hears of
  the acknowledgement later in any case.
- Facts arrive one by one. A batch is a run of arrivals in which nobody else moves.
- Times are those that `bounds` explains. Facts that are only noted are left out unless `every_fact` asks for them.
- Twins, hosts of one wave, may change places. Nobody has a twin where names make a difference (`Bounds.twins`).

Not in here: crashes and lost disks, retention, heartbeats, several channels. The simulated fleet has those.
"""

from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.laws import Law
from nixfleet_testing.explore.machine import ReducerSet
from nixfleet_testing.explore.search import Finding, Report, Step, explore

__all__ = ["Bounds", "Finding", "Law", "ReducerSet", "Report", "Step", "explore"]
