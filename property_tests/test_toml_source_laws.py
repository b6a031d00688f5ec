"""What holds for every text: our scanner finds something wrong exactly if `tomllib` does, and knows every place."""

import tomllib
from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st

from nixfleet_release.written.toml_scanner import TomlSource, read_source
from nixfleet_runtime.documents.problems import at

keys = st.sampled_from(["a", "b", "c", '"a b"', "'c'", "a.b", "b . c", '"é"'])
values = st.recursive(
    st.sampled_from(
        [
            *("1", "-0x1f", "1_000", "1.5e3", "inf", "true", "2026-05-16", "07:32:00"),
            *("2026-05-16 01:00:00Z", '"x"', "'x'", '"\\u00e9\\""', '""', '"#"', "'[a]'"),
            *('"""x\n[a]\nb = 1"""', '"""a\\"""b"""', "'''it''s\n'''", '""""x"""""'),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[ {', '.join(items)} ]")
        | st.lists(inner, max_size=3).map(lambda items: "[ # it\n" + ",\n".join(items) + "\n]")
        | st.lists(st.tuples(keys, inner), max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items) + "}"
        )
    ),
    max_leaves=5,
)
statements = st.one_of(
    st.builds("{} = {}".format, keys, values),
    st.builds("[{}]".format, keys),
    st.builds("[[{}]]".format, keys),
    st.sampled_from(["# a = [", "", "  ", "\t# é"]),
)
texts = st.builds(
    lambda lines, end: end.join(lines), st.lists(statements, max_size=8), st.just("\n")
)
# Single characters taken out of, or put into, what may be TOML.
spoilt = st.builds(
    lambda text, place, put: (
        text[: place % (len(text) + 1)] + put + text[place % (len(text) + 1) + 1 :]
    ),
    texts,
    st.integers(0, 200),
    st.sampled_from(["", "x", '"', "[", "]", "=", "\n", "#", ",", "{", "."]),
)


def paths(value: object, path: str = "") -> Iterator[str]:
    """The path of everything in a document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, at(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, at(path, index))


def read(text: str) -> tuple[TomlSource, bool]:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return read_source(text, "f.toml"), False
    return read_source(text, "f.toml"), True


@given(texts | spoilt)
@example('a = """x\n')
@example("a = [\n1\n[b]\n")
def test_a_text_has_problems_exactly_if_it_is_not_toml(text: str) -> None:
    """Whatever is written, each problem has a line and column that there are."""
    source, is_toml = read(text)
    lines = [*text.split("\n"), ""]

    assert (source.problems == ()) == is_toml
    for problem in source.problems:
        assert problem.place is not None
        assert 1 <= problem.place.line <= len(lines)
        assert 1 <= problem.place.column <= len(lines[problem.place.line - 1]) + 1


@given(texts)
def test_everything_in_a_toml_text_has_a_place(text: str) -> None:
    """The scanner finds the very paths that `tomllib` reads, no more and no fewer."""
    source, is_toml = read(text)

    if is_toml:
        assert set(source.values) == set(paths(source.content))
        assert set(source.keys) <= set(source.values)


@given(texts)
def test_the_scanner_alone_reads_what_tomllib_does(text: str) -> None:
    """With one mistake behind it, everything before that mistake is read all the same."""
    source, is_toml = read(text)
    with_mistake, _ = read(f"{text}\n= 1")

    if is_toml:
        assert with_mistake.content == source.content
        assert len(with_mistake.problems) == 1
