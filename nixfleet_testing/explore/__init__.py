"""Model checking of the real reducers: every interleaving of a bounded world, and the laws that hold in each.

    python -m nixfleet_testing.explore --hosts 3 --waves 2 --pause --clear

A world holds each agent's facts, and what the control plane made of those it received: records, rollouts, queue,
quarantines, pauses. Hosts, their machines, the network, CI and operators each act whenever they can. All decisions are
made by `step` (`Local` on the agent, `Remote` on the control plane), `step_rollout`, `open_rollout`,
`due_rollout_events`, `plan_next` and `replan`, and with a policy by `wave_broken`, `due_by_time`, `drift_change`,
`members_change` and the functions of `standings` and `quarantining`, unless a `ReducerSet` replaces them.

These simplifications do not change the result of any law:

- A lost request is a fact that has not arrived yet. A lost answer, or a late duplicate, is a fact that arrives twice.
  For every new state of a host's mirror, each fact that it has received is sent again, and must change nothing.
- An agent accepts and acknowledges a dispatch in one action. The control plane may act in between, but it receives the
  acknowledgement later in either case.
- Facts arrive one by one. A batch is a series of arrivals without an action of anyone else in between.
- Times are abstracted as `bounds` explains. Facts that change no state are left out unless `every_fact` is set.
- A host that is off is one that does nothing while its time passes. The times of hosts pass one by one, as facts
  arrive; what becomes due for several at once becomes due for one after the other.
- What a heartbeat shows a host to run may be its target or not, whatever the host is at: heartbeats may be stale.
- A host that left goes on with what it is at; a manifest of the same release may bring it back at any time.
- Two hosts of one wave are interchangeable (twins), except where names make a difference (`Bounds.twins`).

Not modelled: crashes, lost disks, retention, heartbeats that give nothing back, regressions, several channels, the
operators' `excuse`, `skip` and `retry`. The simulated fleet has those.
"""

from nixfleet_testing.course.reducer_set import ReducerSet
from nixfleet_testing.explore.bounds import Bounds
from nixfleet_testing.explore.laws import Law
from nixfleet_testing.explore.search import Finding, Report, Step, explore

__all__ = ["Bounds", "Finding", "Law", "ReducerSet", "Report", "Step", "explore"]
