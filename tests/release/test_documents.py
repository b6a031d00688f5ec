"""A fleet in several files: they are one declaration, and none of them overrides another."""

from pathlib import Path

import pytest

from nixfleet_release import DeclarationError, check
from nixfleet_runtime.documents.problems import Place


def written(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.toml").write_text(text, encoding="utf-8")
    return directory


def test_the_files_of_a_directory_are_one_fleet(tmp_path: Path) -> None:
    """Hosts, channels and policies of one fleet may stand in different files."""
    hosts = "[hosts.a]\nchannel = 'stable'\n[hosts.b]\nchannel = 'stable'"
    channels = "[channels.stable]\npolicy = 'p'\n[policies.p]"

    fleet = check(written(tmp_path, hosts=hosts, channels=channels)).declaration

    assert sorted(fleet.hosts) == ["a", "b"]
    assert sorted(fleet.channels) == ["stable"]


def test_tables_of_one_name_are_one_table(tmp_path: Path) -> None:
    """Two files may say different things of one host."""
    one = "[hosts.a]\nchannel = 'stable'\n[channels.stable]\npolicy = 'p'\n[policies.p]"
    other = "[hosts.a]\ntags = ['web']"

    fleet = check(written(tmp_path, one=one, other=other)).declaration

    assert fleet.hosts["a"].tags == ("web",)


def test_budgets_of_all_files_are_put_together(tmp_path: Path, shop: str) -> None:
    """Arrays at the top of two files are one array."""
    budget = "[[budgets]]\nmax_in_flight = 1\nselector = {{ tags = ['{}'] }}\n"

    files = written(tmp_path, shop=shop, web=budget.format("web"), db=budget.format("db"))

    assert len(check(files).declaration.budgets) == 2


def test_a_mistake_in_one_of_several_files_is_told_in_that_file(tmp_path: Path, shop: str) -> None:
    """Its path counts the items of all files, its place is that in its own."""
    good = "[[budgets]]\nmax_in_flight = 1\nselector = 'all'\n"
    bad = "[[budgets]]\nmax_in_flight = 0\nselector = 'tags:web'\n"

    with pytest.raises(DeclarationError) as caught:
        check(written(tmp_path, a=good, b=bad, shop=shop))

    (problem,) = caught.value.problems
    assert problem.path == "budgets[1].max_in_flight"
    assert problem.place == Place(str(tmp_path / "b.toml"), 2, 17)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("hosts.web-01.channel = 'stable'", "hosts.web-01.channel"),
        ("[[policies.canary-first.waves]]\nrest = true", "policies.canary-first.waves"),
        ("hosts = 3", "hosts"),
        ("[hosts.web-01.tags]", "hosts.web-01.tags"),
    ],
    ids=["value", "waves, whose order counts", "table and value", "array and table"],
)
def test_what_two_files_both_say_is_refused(
    tmp_path: Path, shop: str, text: str, path: str
) -> None:
    """Even where they agree: nothing depends on which file is read last. Both are named."""
    with pytest.raises(DeclarationError) as caught:
        check(written(tmp_path, a=shop, b=text))

    (problem,) = caught.value.problems
    assert problem.path == path
    assert "a.toml" in problem.expected
    assert "b.toml" in problem.found


def test_other_mistakes_are_told_beside_what_is_said_twice(tmp_path: Path, shop: str) -> None:
    """What two files both say does not hide what is wrong in one of them."""
    with pytest.raises(DeclarationError) as caught:
        check(written(tmp_path, a=shop, b="hosts.web-01.channel = 'edge'\nhosts.x.channel = 'y'"))

    assert [problem.path for problem in caught.value.problems] == [
        "hosts.web-01.channel",
        "hosts.x.channel",
    ]


def test_every_file_that_is_not_toml_is_told(tmp_path: Path, shop: str) -> None:
    """One broken file does not hide another; what is not UTF-8 is not TOML."""
    files = written(tmp_path, good=shop, bad="[hosts")
    (files / "latin.toml").write_bytes(b"[fleet]\nname = '\xe4'")

    with pytest.raises(DeclarationError) as caught:
        check(files)

    assert [it.place and Path(it.place.file).name for it in caught.value.problems] == [
        "bad.toml",
        "latin.toml",
    ]


def test_a_directory_without_toml_is_refused(tmp_path: Path) -> None:
    """An empty directory declares no fleet."""
    with pytest.raises(DeclarationError) as caught:
        check(tmp_path)

    (problem,) = caught.value.problems
    assert (problem.place, problem.message) == (Place(str(tmp_path)), "is empty")
