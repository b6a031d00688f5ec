"""The database over months of a fleet: with retention it stops growing, without it does not."""

from pathlib import Path

from benchmarks.year import OF_MONTHS_AT_MOST, sizes

HOSTS, MONTHS = 2, 8


def _grown_in_a_month(measured: list[int]) -> float:
    """Of the first months, of which nothing is old enough to be dropped."""
    return measured[1] - measured[0]


def test_the_database_is_as_large_as_the_months_that_are_kept(tmp_path: Path) -> None:
    """However many months come: what is dropped makes room for what comes."""
    measured = sizes(tmp_path, HOSTS, MONTHS, has_retention=True)
    assert len(measured) == MONTHS
    assert max(measured) <= OF_MONTHS_AT_MOST * _grown_in_a_month(measured)
    # The ids of rollouts that are over stay, and what each month leaves may differ by a week.
    assert measured[-1] <= measured[3] * 1.15


def test_the_database_grows_with_every_month_without_retention(tmp_path: Path) -> None:
    """So the bound above is one that can be missed."""
    measured = sizes(tmp_path, HOSTS, MONTHS, has_retention=False)
    assert measured[-1] > OF_MONTHS_AT_MOST * _grown_in_a_month(measured)
    assert measured[-1] > measured[3] * 1.5
