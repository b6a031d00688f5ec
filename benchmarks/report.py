"""Figures as a table for the terminal, as JSON to keep, and as a table between two markers in a page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import asdict

from benchmarks.harness import Figure

BEGIN = "<!-- figures: written by `make bench` -->"
END = "<!-- end of figures -->"
HEADINGS = ("workload", "figure", "median", "lowest – highest", "target")


def as_text(machine: Mapping[str, str], figures: Sequence[Figure]) -> str:
    """Return the table for a terminal."""
    rows = [HEADINGS, *_rows(figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    facts = [f"{name}: {text}" for name, text in machine.items()]
    return "\n".join([*facts, "", lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(machine: Mapping[str, str], figures: Sequence[Figure]) -> str:
    """Return the table for a page."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *_rows(figures)]
    facts = "; ".join(f"{name}: {text}" for name, text in machine.items())
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", facts + "."])


def keep(path: Path, machine: Mapping[str, str], figures: Sequence[Figure]) -> None:
    """Write everything that was measured, each round of it, as JSON."""
    rounds = [asdict(figure) for figure in figures]
    path.write_text(json.dumps({"machine": machine, "figures": rounds}, indent=1) + "\n")


def put_into(page: Path, table: str) -> None:
    """Replace what stands between the markers of `page`."""
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert rest, f"{page} has no line {BEGIN!r}"
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")


def _rows(figures: Sequence[Figure]) -> Iterator[tuple[str, ...]]:
    last = ""
    for figure in figures:
        low, high = figure.spread
        yield (
            "" if figure.workload == last else figure.workload,
            figure.name + _suffix(figure),
            f"{number(figure.median)} {figure.unit}",
            f"{number(low)} – {number(high)}",
            _target(figure),
        )
        last = figure.workload


def _suffix(figure: Figure) -> str:
    return {"peer": " (peer)", "limit": " (limit)"}.get(figure.kind, "")


def _target(figure: Figure) -> str:
    if figure.is_met is None:
        return ""
    wanted = (
        f"≥ {number(figure.at_least)}" if figure.at_least else f"≤ {number(figure.at_most or 0)}"
    )
    if figure.is_met:
        return f"{wanted} reached"
    return f"{wanted} {'MISSED' if figure.is_judged else 'not here'}"


def missed(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    """Return the figures whose target was missed, of those that are judged: not the rates and times of the machine."""
    return tuple(figure for figure in figures if figure.is_judged and not figure.is_met)


def number(value: float) -> str:
    """Return `value` with three digits that matter."""
    if abs(value) >= 1000:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -max(digits, 0)):,.0f}"
    return f"{value:.3g}"
