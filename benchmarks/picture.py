"""The picture of the documentation: three panels, drawn from the figures that are in the table beside it."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# Text stays text, and the same figures give the same file.
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "nixfleet",
        "font.size": 8,
        "font.family": "sans-serif",
    }
)

from matplotlib import pyplot  # noqa: E402

from benchmarks.harness import Figure  # noqa: E402
from benchmarks.report import number  # noqa: E402

COLOURS = {"ours": "#2c6fbb", "peer": "#9aa5b1", "limit": "#d9a441"}


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Write the picture to `path`, as SVG."""
    sheet, panels = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    _bars(panels[0], "one step of the reducer, events/s", _of(figures, "step", "events/s"))
    durable = [
        *_of(figures, "durable_ingest", "events/s"),
        *_of(figures, "durable_ingest", "rows/s"),
    ]
    _bars(panels[1], "durable ingest, events/s", durable)
    _lines(panels[2], "cost of one event, µs (processor)", _of(figures, "growth", "µs/event"))
    sheet.savefig(path, metadata={"Date": None})
    pyplot.close(sheet)


def _of(figures: Sequence[Figure], workload: str, unit: str) -> list[Figure]:
    return [each for each in figures if each.workload == workload and each.unit == unit]


def _bars(panel: "matplotlib.axes.Axes", title: str, figures: Sequence[Figure]) -> None:
    """One bar a figure, with its spread, on a logarithmic axis."""
    places = range(len(figures))
    medians = [figure.median for figure in figures]
    lows = [figure.median - figure.spread[0] for figure in figures]
    highs = [figure.spread[1] - figure.median for figure in figures]
    colours = [COLOURS[figure.kind] for figure in figures]
    panel.barh(places, medians, xerr=(lows, highs), color=colours, error_kw={"elinewidth": 0.8})
    panel.set_yticks(places, [figure.name for figure in figures])
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.set_xlim(right=max(figure.spread[1] for figure in figures) * 6)
    for place, figure in zip(places, figures, strict=True):
        panel.text(figure.spread[1] * 1.15, place, number(figure.median), va="center")
    panel.set_title(title)


def _lines(panel: "matplotlib.axes.Axes", title: str, figures: Sequence[Figure]) -> None:
    """The cost against the size of the fleet, and against the age of its log."""
    for word, label in (("hosts", "by hosts"), ("rows", "by rows in the log")):
        points = [(_leading_number(f.name), f) for f in figures if word in f.name]
        xs = [max(1, x) for x, _ in points]
        ys = [figure.median for _, figure in points]
        panel.plot(xs, ys, marker="o", label=label)
    panel.set_xscale("log")
    panel.set_ylim(bottom=0)
    panel.set_xlabel("hosts, or rows added to the log")
    panel.legend()
    panel.set_title(title)


def _leading_number(name: str) -> int:
    return int("".join(letter for letter in name if letter.isdigit()))
