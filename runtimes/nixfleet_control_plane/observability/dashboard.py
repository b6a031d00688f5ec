"""A Grafana dashboard, made from the definitions of the metrics: a panel for each, so none names one that is gone."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from nixfleet_control_plane.http.metrics import Definition
from nixfleet_proto.json_value import JsonValue

TITLE: Final = "nixfleet"
WIDTH, HEIGHT, COLUMNS = 8, 7, 3
_SOURCE: Final[dict[str, JsonValue]] = {"type": "prometheus", "uid": "${datasource}"}
_ROWS: Final = (
    (
        "Needs a person",
        ("needs", "rollouts", "guards", "quarantines", "holds", "artefacts", "left"),
    ),
    ("Hosts", ("host", "enroll", "dispatch", "failures", "warrants")),
    (
        "Rollouts and releases",
        ("rollout", "release", "slots", "budgets", "next", "oldest", "verdicts"),
    ),
    ("The control plane", ("",)),
)
"""The rows, and how the names of their metrics begin after `nixfleet_`; the first that fits has it."""


def dashboard(definitions: Sequence[Definition]) -> JsonValue:
    """Return the dashboard, as Grafana imports it."""
    panels = list(_panels(definitions))
    return {
        "title": TITLE,
        "uid": "nixfleet",
        "tags": ["nixfleet"],
        "timezone": "utc",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "type": "datasource",
                    "query": "prometheus",
                    "label": "Data source",
                }
            ]
        },
        "panels": panels,
    }


def expressions(definition: Definition) -> Iterator[tuple[str, str]]:
    """Yield what a panel of a metric asks, in PromQL, and the legend of each."""
    name, by = definition.name, ", ".join(definition.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in definition.labels)
    match definition.kind:
        case "counter":
            rate = f"rate({name}[5m])"
            yield (f"sum by ({by}) ({rate})" if by else f"sum({rate})"), legend or name
        case "histogram":
            for share in ("0.5", "0.95"):
                yield (
                    f"histogram_quantile({share}, sum by (le) (rate({name}_bucket[5m])))",
                    f"P{float(share) * 100:.0f}",
                )
        case _:
            yield (f"sum by ({by}) ({name})" if by else name), legend or name


def _panels(definitions: Iterable[Definition]) -> Iterator[JsonValue]:
    left, number, top = list(definitions), 0, 0
    for title, begins in _ROWS:
        of_row = [each for each in left if _short(each).startswith(begins)]
        left = [each for each in left if each not in of_row]
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"h": 1, "w": WIDTH * COLUMNS, "x": 0, "y": top},
        }
        top += 1
        for place, each in enumerate(of_row):
            number += 1
            x, y = place % COLUMNS * WIDTH, top + place // COLUMNS * HEIGHT
            yield _panel(number, each, x, y)
        top += -(-len(of_row) // COLUMNS) * HEIGHT


def _panel(number: int, definition: Definition, x: int, y: int) -> JsonValue:
    return {
        "id": number,
        "type": "timeseries",
        "title": _short(definition).replace("_", " "),
        "description": f"{definition.name}: {definition.text}",
        "datasource": _SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": _unit(definition)}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "expr": expr,
                "legendFormat": legend,
                "datasource": _SOURCE,
            }
            for place, (expr, legend) in enumerate(expressions(definition))
        ],
    }


def _short(definition: Definition) -> str:
    return definition.name.removeprefix("nixfleet_")


def _unit(definition: Definition) -> str:
    name = definition.name
    if name.endswith("_timestamp_seconds"):
        return "dateTimeAsIso"
    if "seconds" in name:
        return "s"
    return "ops" if definition.kind == "counter" else "short"
