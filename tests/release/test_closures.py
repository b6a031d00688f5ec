"""Health checks into closures before they are hashed, and the names that come of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nixfleet_proto.codec import decode_health_checks
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import HEALTH_CHECKS_PATH, ExecProbe, HealthCheck
from nixfleet_release import (
    CheckedFleet,
    DeclarationError,
    LeadsOutside,
    name_closures,
    render_health_checks,
)
from nixfleet_runtime.releases.nar import closure_name_of

Checked = Callable[[str], CheckedFleet]

CHECK = """
[tags.web.health_checks.up]
kind = "exec"
command = ["true"]
"""
CHECKS = FrozenMap[str, HealthCheck]({"up": ExecProbe(("true",))})


def trees(directory: Path, *names: str) -> dict[str, Path]:
    """A tree for each name, all with the same content."""
    for name in names:
        (directory / name).mkdir()
        (directory / name / "version").write_text("1")
    return {name: directory / name for name in names}


def test_health_checks_are_rendered_where_the_agent_looks(tmp_path: Path) -> None:
    """The file is at its place in the tree, and decodes to what was declared."""
    file = render_health_checks(tmp_path, CHECKS)

    assert file == tmp_path / HEALTH_CHECKS_PATH
    assert decode_health_checks(file.read_bytes()) == CHECKS


def test_rendering_again_replaces_what_was_rendered(tmp_path: Path) -> None:
    """A tree that is built twice has the latest checks only, and the same bytes for the same."""
    render_health_checks(tmp_path, CHECKS)
    first = (tmp_path / HEALTH_CHECKS_PATH).read_bytes()
    render_health_checks(tmp_path, FrozenMap())
    render_health_checks(tmp_path, CHECKS)

    assert (tmp_path / HEALTH_CHECKS_PATH).read_bytes() == first


def test_an_empty_set_is_rendered_too(tmp_path: Path) -> None:
    """A closure without health checks says so, rather than nothing."""
    file = render_health_checks(tmp_path, FrozenMap())

    assert decode_health_checks(file.read_bytes()) == {}


def test_a_link_that_leads_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    """What is written through a link is not in the tree, so its hash would not sign it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    tree = trees(tmp_path, "tree")["tree"]
    (tree / "etc").symlink_to(elsewhere)

    with pytest.raises(LeadsOutside) as caught:
        render_health_checks(tree, CHECKS)

    assert (caught.value.path, caught.value.target) == (tree / "etc", elsewhere)
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    """The checks are in the tree itself; what the link led to stays as it was."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    tree = trees(tmp_path, "tree")["tree"]
    (tree / HEALTH_CHECKS_PATH).parent.mkdir(parents=True)
    (tree / HEALTH_CHECKS_PATH).symlink_to(elsewhere)

    render_health_checks(tree, CHECKS)

    assert not (tree / HEALTH_CHECKS_PATH).is_symlink()
    assert elsewhere.read_text() == "mine"


def test_a_tree_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A misspelt path does not become a closure with nothing in it but checks."""
    with pytest.raises(FileNotFoundError):
        render_health_checks(tmp_path / "tree", CHECKS)


def test_the_name_of_a_closure_signs_its_health_checks(
    tmp_path: Path, checked: Checked, shop: str
) -> None:
    """Trees that differ in their health checks alone have different names."""
    built = trees(tmp_path, "web-01", "db-01")
    names = name_closures(checked(shop + CHECK), built)

    assert names["web-01"] == closure_name_of(built["web-01"], "web-01")
    assert names["web-01"].split("-")[0] != names["db-01"].split("-")[0]


def test_hosts_with_the_same_checks_may_share_a_tree(
    tmp_path: Path, checked: Checked, shop: str
) -> None:
    """Hosts that run the same closure get the same name."""
    tree = trees(tmp_path, "web")["web"]
    names = name_closures(checked(shop + CHECK), {"web-01": tree, "web-02": tree})

    assert names["web-01"] == names["web-02"]


def test_hosts_with_other_checks_that_share_a_tree_are_refused(
    tmp_path: Path, checked: Checked, shop: str
) -> None:
    """One tree cannot hold two sets; nothing is rendered, and strangers are told as well."""
    tree = trees(tmp_path, "web")["web"]

    with pytest.raises(DeclarationError) as caught:
        name_closures(checked(shop + CHECK), {"db-01": tree, "web-02": tree, "web-09": tree})

    assert [(it.path, it.found) for it in caught.value.problems] == [
        ("closures.web-02", f"{tree}, the tree of db-01"),
        ("closures.web-09", '"web-09"'),
    ]
    assert not (tree / "etc").exists()
