"""Every workload runs and says what it measured, at its smallest. How fast it was is nobody's business here."""

import pytest

from benchmarks.__main__ import WORKLOADS, figures_of
from benchmarks.harness import TINY, from_json, to_json


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_runs_and_yields_figures(name: str) -> None:
    """There are figures, of this workload, each with a positive value, and they survive being JSON."""
    figures = figures_of(name, TINY)

    assert figures
    assert {figure.workload for figure in figures} == {name}
    assert all(value > 0 for figure in figures for value in figure.values)
    assert from_json(to_json(figures)) == figures
