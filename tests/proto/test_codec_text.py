"""JSON text and times: what is taken, what is refused, and what is written."""

from datetime import UTC, datetime

import pytest

from nixfleet_proto.codec import (
    DecodeError,
    DecodeProblem,
    Uncanonical,
    canonical_bytes,
    format_time,
    parse_json,
    parse_time,
    require_affordable,
)
from nixfleet_proto.json_value import JsonValue


def _problems(data: bytes) -> tuple[DecodeProblem, ...]:
    with pytest.raises(DecodeError) as refusal:
        parse_json(data)
    return refusal.value.problems


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"{} x", b"{}{}", b"NaN", b"01", b"'a'", b"\xff", b'"\xc3"', b"\xef\xbb\xbf1"],
)
def test_parsing_what_is_not_one_value_in_utf_8_is_refused(data: bytes) -> None:
    """Broken text, trailing text and other encodings are refused as a whole."""
    (problem,) = _problems(data)

    assert (problem.path, problem.expected) == ("$", "JSON")


def test_parsing_text_between_white_space_is_accepted() -> None:
    """White space around a value is no trailing text."""
    assert parse_json(b' {"a": 1}\n') == {"a": 1}


def test_parsing_repeated_names_names_every_one_of_them() -> None:
    """Each repeated name is reported with its path, at every depth."""
    assert [problem.path for problem in _problems(b'{"a":[{"b":1,"b":1}],"c d":1,"c d":2}')] == [
        '$["c d"]',
        "$.a[0].b",
    ]


def test_parsing_a_name_repeated_in_another_spelling_is_refused() -> None:
    """An escape does not hide that a name comes twice."""
    assert _problems(b'{"seq":1,"\\u0073eq":2}')[0].path == "$.seq"


def test_parsing_many_repeated_names_names_the_first_of_them() -> None:
    """No more are looked for than can be shown and told to be too many."""
    data = b"[" + b",".join([b'{"a":1,"a":2}'] * 1000) + b"]"
    assert [problem.path for problem in _problems(data)] == [f"$[{index}].a" for index in range(21)]


def test_the_path_of_a_problem_is_cut() -> None:
    """Names are the sender's: neither a long one nor many of them make a long answer."""
    (long,) = _problems(b'{"%b":{"b":1,"b":1}}' % (b"a" * 100_000))
    assert long.path == f'$["{"a" * 60}…"].b'
    (deep,) = _problems(b'{"abcdefgh":' * 200 + b'{"b":1,"b":1}' + b"}" * 200)
    assert len(deep.path) < 300
    assert deep.path.endswith("…")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[" + b"[]," * 40_000 + b"[]]", "at most 32768 lists and objects"),
        (b"[" + b'{"":0},' * 40_000 + b"0]", "at most 32768 lists and objects"),
        (b"[" + b"0," * 70_000 + b"0]", "at most 65536 commas"),
        (b"{" + b'"":0,' * 70_000 + b'"":0}', "at most 65536 commas"),
    ],
    ids=["lists", "objects", "values", "members"],
)
def test_a_message_with_too_many_parts_is_refused_unread(data: bytes, expected: str) -> None:
    """What it costs to read a text goes by its parts, not by its length."""
    with pytest.raises(DecodeError) as refusal:
        require_affordable(data, "body")
    assert [problem.expected for problem in refusal.value.problems] == [expected]


def test_a_message_with_few_parts_is_accepted() -> None:
    """Objects, lists and commas are counted, up to their limits."""
    require_affordable(b'{"probes":[1,2]}', "body")


def test_what_stands_in_strings_is_no_part_of_a_message() -> None:
    """A script may write brackets and commas, and its output is reported."""
    require_affordable(b'{"stderrTail":"' + rb"[{,\"" * 100_000 + b'"}', "body")


def test_parsing_the_same_name_in_different_objects_is_accepted() -> None:
    """A name is only to be unique where it stands."""
    assert parse_json(b'[{"a":1},{"a":{"a":2}}]') == [{"a": 1}, {"a": {"a": 2}}]


@pytest.mark.parametrize("depth", [255, 1_000, 100_000])
def test_parsing_text_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    """No depth of nesting raises anything but a decode error."""
    (problem,) = _problems(b"[" * depth + b"]" * depth)

    assert problem.path == "$"


def test_canonical_bytes_sort_names_by_utf_16_unit() -> None:
    """Names sort as RFC 8785 says, not by code point: U+1F600 comes before U+FB33."""
    assert canonical_bytes({"\ufb33": 1, "\U0001f600": 2, "a": [True, None]}) == (
        '{"a":[true,null],"\U0001f600":2,"\ufb33":1}'.encode()
    )


@pytest.mark.parametrize("number", [0.5, 1.0, 2**53, -(2**53)])
def test_canonical_bytes_of_a_number_without_a_single_form_are_refused(number: float) -> None:
    """Floats and integers that a double cannot hold are refused where they stand."""
    value: JsonValue = {"a": [1, {"b": number}]}

    with pytest.raises(Uncanonical) as refusal:
        canonical_bytes(value)

    assert refusal.value.problem == DecodeProblem(
        "$.a[1].b", "an integer within ±(2^53 - 1)", repr(number)
    )


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 5, 16, 1, tzinfo=UTC), "2026-05-16T01:00:00Z"),
        (datetime(2026, 5, 16, 1, 0, 0, 500_000, tzinfo=UTC), "2026-05-16T01:00:00.500Z"),
        (datetime(2026, 5, 16, 1, 0, 0, 120, tzinfo=UTC), "2026-05-16T01:00:00.000120Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_written_with_the_shortest_exact_fraction(at: datetime, text: str) -> None:
    """A fraction has 0, 3 or 6 digits, as few as keep the time exact."""
    assert format_time(at) == text
    assert parse_time(text) == at


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-05-16T03:00:00+02:00", "2026-05-16T01:00:00Z"),
        ("2026-05-15T20:30:00.1-04:30", "2026-05-16T01:00:00.100Z"),
        ("2026-05-16T01:00:00-00:00", "2026-05-16T01:00:00Z"),
        ("2026-05-16T01:00:00.123456789Z", "2026-05-16T01:00:00.123456Z"),
    ],
)
def test_parsing_a_time_with_an_offset_or_more_digits_gives_utc_to_the_microsecond(
    text: str, same: str
) -> None:
    """Any RFC 3339 time is read; what is finer than a microsecond is dropped."""
    assert format_time(parse_time(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-16",
        "2026-05-16T01:00:00",
        "2026-05-16 01:00:00Z",
        "2026-05-16T01:00Z",
        "20260516T010000Z",
        "2026-W20-6T01:00:00Z",
        "2026-05-16T24:00:00Z",
        "2026-02-30T01:00:00Z",
        "2026-05-16T01:00:00.Z",
        "2026-05-16T01:00:00+0200",
        "2026-05-16T01:00:00Z\n",
        "٢٠٢٦-05-16T01:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "",
    ],
)
def test_parsing_what_is_not_an_rfc_3339_time_is_refused(text: str) -> None:
    """Dates alone, times without an offset and other notations are refused."""
    with pytest.raises(DecodeError, match="expected an RFC 3339 time"):
        parse_time(text)
