"""A declaration in layers: a later one overrides an earlier one, and where both are is kept."""

from pathlib import Path

import pytest

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.health_check import HttpProbe
from nixfleet_release import CheckedFleet, DeclarationError, Problem, check
from nixfleet_release.written.layers import Origin, origins
from nixfleet_runtime.documents.problems import Place
from nixfleet_state_machine.scopes.merge import FLEET

BASE = """\
[channels.stable]
policy = "once"
[policies.once]
on_health_failure = "halt"
[hosts.web-01]
channel = "stable"
tags = ["web"]
[hosts.web-02]
channel = "stable"
[health_checks.up]
kind = "exec"
command = ["true"]
[[budgets]]
selector = "all"
max_in_flight = 1
"""
SITE = """\
[policies.once]
on_health_failure = "rollback-and-halt"
[hosts.web-01]
tags = ["web", "berlin"]
[[budgets]]
selector = "tags:berlin"
max_in_flight = 1
"""
NAMED = 'layers = ["base", "site"]\n'


def written(directory: Path, root: str, **layers: str) -> Path:
    """Write a declaration whose layers have one file each, all.toml."""
    (directory / "fleet.toml").write_text(root, encoding="utf-8")
    for name, text in layers.items():
        (directory / name).mkdir()
        (directory / name / "all.toml").write_text(text, encoding="utf-8")
    return directory


def problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(DeclarationError) as caught:
        check(path)
    return caught.value.problems


def origin(checked: CheckedFleet, path: str) -> Origin:
    assert checked.written is not None
    (found,) = origins(checked.written, path)
    return found


def test_a_later_layer_overrides_value_by_value(tmp_path: Path) -> None:
    """What it sets is in effect, and what it does not set stays."""
    fleet = check(written(tmp_path, NAMED, base=BASE, site=SITE)).declaration

    assert fleet.policies["once"].on_health_failure is OnHealthFailure.ROLLBACK_AND_HALT
    assert fleet.hosts["web-01"].tags == ("web", "berlin")
    assert fleet.hosts["web-01"].channel == "stable"


def test_the_order_of_layers_is_that_of_the_list(tmp_path: Path) -> None:
    """The last named layer wins, whatever its name."""
    site = '[policies.once]\non_health_failure = "rollback-and-halt"\n'
    path = written(tmp_path, 'layers = ["site", "base"]', base=BASE, site=site)

    assert check(path).declaration.policies["once"].on_health_failure is OnHealthFailure.HALT


def test_the_file_that_names_the_layers_may_be_given(tmp_path: Path) -> None:
    """The directory and its fleet.toml are the same declaration."""
    directory = written(tmp_path, NAMED, base=BASE, site=SITE)

    assert check(directory / "fleet.toml").declaration == check(directory).declaration


def test_every_value_has_its_place_and_what_it_overrides(tmp_path: Path) -> None:
    """A value that three layers set names the last one, and the other two in their order."""
    path = written(
        tmp_path,
        'layers = ["base", "site", "late"]',
        base=BASE,
        site=SITE,
        late='policies.once.on_health_failure = "halt"\n',
    )

    def at(layer: str, line: int, column: int) -> Place:
        return Place(str(tmp_path / layer / "all.toml"), line, column)

    assert origin(check(path), "policies.once.on_health_failure") == Origin(
        "policies.once.on_health_failure", at("late", 1, 35), (at("base", 4, 21), at("site", 2, 21))
    )
    assert origin(check(path), "hosts.web-01.tags").overridden == (at("base", 7, 8),)
    assert origin(check(path), "hosts.web-01.channel") == Origin(
        "hosts.web-01.channel", at("base", 6, 11)
    )


def test_a_health_check_of_another_kind_replaces_the_whole_check(tmp_path: Path) -> None:
    """The command of an exec check means nothing to an http check, so it does not stay."""
    site = '[health_checks.up]\nkind = "http"\nurl = "http://localhost/"\n'

    checked = check(written(tmp_path, NAMED, base=BASE, site=site))

    assert checked.declaration.health_checks[FLEET] == {"up": HttpProbe("http://localhost/")}
    assert origin(checked, "health_checks.up.url").overridden == (
        Place(str(tmp_path / "base/all.toml"), 10, 16),
    )


def test_a_health_check_of_the_same_kind_keeps_its_other_fields(tmp_path: Path) -> None:
    """A layer may change one field of a check."""
    site = "[health_checks.up]\ninterval_seconds = 7\n"

    checked = check(written(tmp_path, NAMED, base=BASE, site=site))

    (up,) = checked.declaration.health_checks[FLEET].values()
    assert up.interval_seconds == 7


def test_budgets_are_added_and_that_of_the_same_selector_is_replaced(tmp_path: Path) -> None:
    """Items of both layers are there, and a mistake in a later one has its place in its file."""
    site = SITE + '[[budgets]]\nselector = "all"\nmax_in_flight = 2\n'
    path = written(tmp_path, NAMED, base=BASE, site=site)

    assert [each.max_in_flight for each in check(path).declaration.budgets] == [2, 1]

    (path / "site" / "all.toml").write_text(SITE.replace("flight = 1", "flight = 0"))
    (problem,) = problems(path)
    assert (problem.path, problem.place) == (
        "budgets[1].max_in_flight",
        Place(str(tmp_path / "site/all.toml"), 7, 17),
    )


def test_an_edge_of_the_same_ends_is_replaced(tmp_path: Path) -> None:
    """A layer may give an edge another reason."""
    edge = '[[edges]]\ngates = "web-01"\ngated = "web-02"\nreason = "{}"\n'
    path = written(tmp_path, NAMED, base=BASE + edge.format("old"), site=edge.format("new"))

    assert [each.reason for each in check(path).declaration.edges] == ["new"]


def test_a_conflict_inside_one_layer_is_still_refused(tmp_path: Path) -> None:
    """Files of one layer override nothing; both files are named."""
    path = written(tmp_path, NAMED, base=BASE, site=SITE)
    (path / "site" / "more.toml").write_text('hosts.web-01.tags = ["web"]\n')

    (problem,) = problems(path)

    assert (problem.path, problem.message) == ("hosts.web-01.tags", "duplicate")
    assert problem.place == Place(str(path / "site/more.toml"), 1, 14)


@pytest.mark.parametrize(
    ("root", "path", "message"),
    [
        ("layers = []", "layers", "cannot be used"),
        ('layers = "base"', "layers", "cannot be used"),
        ('layers = ["base", 3]', "layers[1]", "cannot be used"),
        ('layers = ["base", "sight"]', "layers[1]", "no such layer"),
        ('layers = ["base", "base/"]', "layers[1]", "duplicate"),
        ('layers = ["base"]\n[hosts.x]\nchannel = "stable"', "hosts", "outside of the layers"),
    ],
)
def test_layers_that_cannot_be_used_are_refused_at_their_place(
    tmp_path: Path, root: str, path: str, message: str
) -> None:
    """Each has its path in the file that names the layers."""
    (problem,) = problems(written(tmp_path, root, base=BASE))

    assert (problem.path, problem.message) == (path, message)
    assert problem.place is not None
    assert problem.place.file == str(tmp_path / "fleet.toml")
    assert problem.place.line > 0


def test_every_unreadable_layer_is_reported(tmp_path: Path) -> None:
    """A layer without files and one that is not UTF-8 are two problems, beside one that is missing."""
    path = written(tmp_path, 'layers = ["base", "none", "empty", "latin"]', base=BASE, latin="")
    (path / "empty").mkdir()
    (path / "latin" / "all.toml").write_bytes(b"[fleet]\nname = '\xe4'")

    assert {(each.path, each.message) for each in problems(path)} == {
        ("layers[1]", "no such layer"),
        ("", "is empty"),
        ("", "not TOML"),
    }


def test_a_layer_has_no_layers_of_its_own(tmp_path: Path) -> None:
    """Only the outermost file names layers; anywhere else the key is unknown."""
    (problem,) = problems(written(tmp_path, NAMED, base=BASE, site='layers = ["base"]\n'))

    assert (problem.path, problem.message) == ("layers", "unknown key")
