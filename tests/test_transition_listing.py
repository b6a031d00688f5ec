"""The golden listings are what the code does now."""

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine import HostState, RolloutEvent, RolloutState
from nixfleet_testing.listing import listings, main

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["host_transitions.txt", "rollout_transitions.txt"])
def test_listing_the_transitions_gives_the_golden_file(name: str) -> None:
    """Each golden file is fresh; `--write tests/golden` renews it, and its diff is to be read."""
    assert listings()[name] == (GOLDEN / name).read_text(encoding="utf-8")


def test_listing_the_transitions_leaves_nothing_out() -> None:
    """Every state has a section, in which every kind of fact or event is named."""
    host, rollout = listings()["host_transitions.txt"], listings()["rollout_transitions.txt"]

    assert _missing(host, HostState, get_args(AgentEvent)) == []
    assert _missing(rollout, RolloutState, get_args(RolloutEvent)) == []


def _missing(listing: str, states: Iterable[str], kinds: Iterable[type]) -> list[str]:
    sections = {part.split("\n")[0].partition(",")[0]: part for part in listing.split("\n\n")}
    wanted = [kind.__name__ for kind in kinds]
    return [
        f"{state}: {name}" for state in states for name in wanted if name not in sections[state]
    ]


def test_writing_the_listings_makes_one_file_for_each(tmp_path: Path) -> None:
    """`--write` puts every listing into its own file in the directory, and nothing else there."""
    main(["--write", str(tmp_path)])

    written = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    assert written == listings()


def test_listing_without_a_directory_prints_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--write` the listings go to standard output, one after the other."""
    main([])

    assert capsys.readouterr().out == "".join(listings().values())
