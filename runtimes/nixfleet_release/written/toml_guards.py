"""Reads the guards of a wave: `bake_minutes`, `approvals`, `checks` and `waivable`, in the table of the wave.

What is read here is judged by `check.rules.guards`, whoever wrote it.
Source: docs/spec/guards.md, Declaration.
"""

from nixfleet_release.written.declaration import (
    ApprovalsDeclaration,
    CheckDeclaration,
    GuardsDeclaration,
)
from nixfleet_runtime.documents.tables import Table


def read_guards(wave: Table) -> GuardsDeclaration:
    """Return the guards that the table of a wave declares."""
    return GuardsDeclaration(
        wave.integer("bake_minutes", 0),
        _approvals(wave.section("approvals")) if wave.has("approvals") else None,
        tuple(map(_check, wave.array("checks"))),
        wave.some_texts("waivable"),
    )


def _approvals(table: Table) -> ApprovalsDeclaration:
    table.require("count", "how many operators must approve")
    table.require("from", "the names of the operators who may approve")
    return ApprovalsDeclaration(table.integer("count", 1), table.some_texts("from"))


def _check(table: Table) -> CheckDeclaration:
    default = CheckDeclaration("", "", "", "", None)
    return CheckDeclaration(
        name=table.text("name"),
        judge=table.text("judge"),
        query=table.text("query"),
        comparison=table.text("comparison"),
        passes=table.optional_integer("passes"),
        failures=table.integer("failures", default.failures),
        inconclusive=table.optional_integer("inconclusive"),
        interval_seconds=table.integer("interval_seconds", default.interval_seconds),
    )
