"""Where things stand in a TOML text, and everything in it that is not TOML."""

import pytest

from nixfleet_release.written.toml_scanner import TomlSource, read_source


def read(text: str) -> TomlSource:
    return read_source(text, "f.toml")


def told(source: TomlSource) -> list[tuple[str, str]]:
    return [(str(problem.place), problem.path) for problem in source.problems]


PLACES = """\
[hosts.web-01] # a comment with "quotes" and = signs
channel = 'stable'
tags = [ # of a host
  "web", 'eu',
]
"with.dot".inner = { a = 1, b = [2] }

[[policies.p.waves]]
selector = "a \\" b"
[[policies.p.waves]]
text = \"\"\"
not = a statement
[nor.a.header]
\"\"\"
at = 2026-05-16 01:00:00Z
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("hosts", "f.toml:1:2"),
        ("hosts.web-01", "f.toml:1:8"),
        ("hosts.web-01.channel", "f.toml:2:11"),
        ("hosts.web-01.tags[0]", "f.toml:4:3"),
        ("hosts.web-01.tags[1]", "f.toml:4:10"),
        ('hosts.web-01."with.dot"', "f.toml:6:1"),
        ('hosts.web-01."with.dot".inner', "f.toml:6:20"),
        ('hosts.web-01."with.dot".inner.a', "f.toml:6:26"),
        ('hosts.web-01."with.dot".inner.b[0]', "f.toml:6:34"),
        ("policies.p.waves", "f.toml:8:14"),
        ("policies.p.waves[1]", "f.toml:10:14"),
        ("policies.p.waves[1].at", "f.toml:15:6"),
    ],
)
def test_every_value_and_table_has_its_place(path: str, place: str) -> None:
    """Values stand where they begin, tables where their headers name them first."""
    assert str(read(PLACES).values[path]) == place


def test_a_key_has_a_place_of_its_own() -> None:
    """What is wrong with a key is told at the key."""
    source = read(PLACES)

    assert str(source.keys["hosts.web-01.tags"]) == "f.toml:3:1"
    assert str(source.keys['hosts.web-01."with.dot".inner.b']) == "f.toml:6:29"
    assert source.problems == ()


@pytest.mark.parametrize(
    ("text", "place", "path"),
    [
        ("a = stable", "1:5", "a"),
        ("a = 05", "1:5", "a"),
        ("a = ", "1:5", "a"),
        ("a", "1:2", "a"),
        ("a = 'x", "1:5", "a"),
        ('a = """x\nb = 1', "1:5", "a"),
        ('a = "\\q"', "1:5", "a"),
        ("a = 1 b = 2", "1:7", "a"),
        ("a = [1 2]", "1:8", "a"),
        ("a = [1,", "1:8", "a[1]"),
        ("a = [1\nb = 2", "1:5", "a"),
        ("a = { b = 1,\n c = 2\n}\nd = 1", "1:13", "a"),
        ("a = { b = 1, }\nd = 1", "1:14", "a"),
        ("a = { b = 1", "1:12", "a"),
        ("[a\nb = 1", "1:3", "a"),
        ("[a] b = 1", "1:5", "a"),
        ("[[a]\nb = 1", "1:4", "a"),
        ("= 1", "1:1", ""),
        ("a = 1\na = 2", "2:1", "a"),
        ("[a]\n[b]\n[a]", "3:2", "a"),
        ("a = 1\n[a.b]", "2:2", "a"),
        ("a.b = 1\n[[a]]", "2:3", "a"),
        ("a = { b = 1 }\n[a.c]", "2:2", "a"),
        ("a = [1]\n[[a]]", "2:3", "a"),
        ("[a.b]\n[a]\nb.c = 1", "3:1", "a.b"),
    ],
)
def test_a_mistake_is_told_at_its_place(text: str, place: str, path: str) -> None:
    """Each is one problem, with the path it concerns if that could be read."""
    assert told(read(text)) == [(f"f.toml:{place}", path)]


def test_all_mistakes_are_told_and_the_rest_is_read() -> None:
    """After a mistake the next statement is read as if nothing had happened."""
    source = read("a = b\nc = 1\n[d\ne = [\n 1\n\nf = 2\ng = 3 4\n[d]\nh = 1\n[i]\nj = 5\n")

    assert told(source) == [
        ("f.toml:1:5", "a"),
        ("f.toml:3:3", "d"),
        ("f.toml:4:5", "d.e"),
        ("f.toml:8:7", "d.g"),
        ("f.toml:9:2", "d"),
    ]
    assert source.content == {"c": 1, "d": {"f": 2, "g": 3}, "i": {"j": 5}}
    assert source.is_whole


def test_a_text_of_another_language_is_told_line_by_line() -> None:
    """Lines that look like statements are each a mistake of their own."""
    source = read("hosts:\n  web-01:\n    channel: stable\n")

    assert told(source) == [
        ("f.toml:1:6", "hosts"),
        ("f.toml:2:9", "web-01"),
        ("f.toml:3:12", "channel"),
    ]


def test_what_is_said_twice_is_told_with_where_it_is_first() -> None:
    """The first one counts; what stands under a second header is not looked at."""
    source = read("[a]\nx = 1\nx = 2\n[a]\ny = 3\n")

    assert [(it.message, it.expected) for it in source.problems] == [
        ("duplicate", "one definition (the first is in line 2)"),
        ("duplicate", "one definition (the first is in line 1)"),
    ]
    assert source.content == {"a": {"x": 1}}


def test_a_statement_whose_key_cannot_be_read_leaves_a_gap() -> None:
    """Whoever judges what is there must know that something is not."""
    assert not read("= 1").is_whole
    assert read("a = b").is_whole


def test_values_in_one_another_without_end_are_refused() -> None:
    """A text that would take any depth is a problem, not a crash."""
    (problem,) = read("a = " + "[" * 5000).problems

    assert "nested" in problem.expected
