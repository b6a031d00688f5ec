"""Strategies of what is said of hosts, waves, budgets and probes: figures and rules, which nothing here decides by.

Any values of the right types: no reader relies on more.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import cast

import attrs
from attrs import AttrsInstance
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.health_check import HealthRule
from nixfleet_state_machine.planner.blast_radius import BudgetWedge
from nixfleet_state_machine.planner.deadlines import LapseDue, RetryDue
from nixfleet_state_machine.planner.host_status import (
    HostDrift,
    HostInFleet,
    HostInRollout,
    StageDeadline,
)
from nixfleet_state_machine.planner.pace.budget_use import BudgetUse
from nixfleet_state_machine.planner.pace.status import BudgetStatus
from nixfleet_state_machine.planner.rollout_status import OverdueHost, WaveStatus
from nixfleet_state_machine.rollout.state import Drift
from nixfleet_testing.strategies.names import hostnames, times

_NUMBERS = st.integers(0, 9)
_OF_FIELDS: Mapping[object, SearchStrategy[object]] = {
    datetime: times(),
    datetime | None: st.none() | times(),
    int: _NUMBERS,
    int | None: st.none() | _NUMBERS,
    str: hostnames(),
    str | None: st.none() | hostnames(),
}


def _built(cls: type[object]) -> SearchStrategy[object]:
    fields = attrs.fields(cast("type[AttrsInstance]", cls))
    known = {it.name: _OF_FIELDS[it.type] for it in fields if it.type in _OF_FIELDS}
    return st.builds(cls, **known)


STATUSES: Mapping[type[object], SearchStrategy[object]] = {
    cls: _built(cls)
    for cls in (
        BudgetStatus,
        BudgetUse,
        BudgetWedge,
        Drift,
        HealthRule,
        HostDrift,
        HostInFleet,
        HostInRollout,
        LapseDue,
        OverdueHost,
        RetryDue,
        StageDeadline,
        WaveStatus,
    )
}
