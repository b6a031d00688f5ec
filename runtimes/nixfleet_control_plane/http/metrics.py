"""Metrics for Prometheus. Labels are bounded: states and kinds, never hosts, rollouts or closures.

Counters and histograms are recorded from effects; gauges are read at every scrape.
Source: Prometheus naming conventions.
"""

from collections.abc import Callable, Iterator, Mapping

from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nixfleet_state_machine.host.effect import EmitMetric

BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 512)
SECONDS_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


@frozen
class Definition:
    """A metric. kind: `counter`, `gauge` or `histogram`. text: what it is. labels: of its samples."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...] = ()


class Metrics:
    """The metrics of one control plane. definitions: of those that are registered before any event."""

    def __init__(self) -> None:
        self.definitions = [
            Definition("nixfleet_batch_inputs", "histogram", "inputs per commit"),
            Definition(
                "nixfleet_refused_requests_total",
                "counter",
                "requests that were refused",
                ("cause",),
            ),
        ]
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._batches = Histogram(
            "nixfleet_batch_inputs",
            "inputs per commit",
            registry=self._registry,
            buckets=BATCH_BUCKETS,
        )
        self._refused = Counter(
            "nixfleet_refused_requests_total",
            "requests that were refused",
            ["cause"],
            registry=self._registry,
        )

    def record(self, metric: EmitMetric) -> None:
        """Add to a counter (`_total`) or observe in a histogram (`_seconds`)."""
        labels = dict(metric.labels)
        if metric.name.endswith("_total"):
            counter = self._counters.get(metric.name) or self._new_counter(metric)
            (counter.labels(**labels) if labels else counter).inc(metric.value)
        else:
            histogram = self._histograms.get(metric.name) or self._new_histogram(metric)
            (histogram.labels(**labels) if labels else histogram).observe(metric.value)

    def gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Register a gauge whose value `read` returns at every scrape."""
        self.definitions.append(Definition(name, "gauge", documentation))
        self._registry.register(_Gauge(name, documentation, read))

    def gauge_by(
        self, name: str, documentation: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        """As `gauge`, with one value for each value of `label`."""
        self.definitions.append(Definition(name, "gauge", documentation, (label,)))
        self._registry.register(_LabelledGauge(name, documentation, label, read))

    def observe_batch(self, inputs: int) -> None:
        """Observe the number of inputs in one commit."""
        self._batches.observe(inputs)

    def count_refusal(self, cause: str) -> None:
        """Count a request that was refused. cause: one of few, such as the name of the problem it is answered with."""
        self._refused.labels(cause=cause).inc()

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _new_counter(self, metric: EmitMetric) -> Counter:
        names = [name for name, _ in metric.labels]
        counter = Counter(metric.name, _words(metric.name), names, registry=self._registry)
        return self._counters.setdefault(metric.name, counter)

    def _new_histogram(self, metric: EmitMetric) -> Histogram:
        names = [name for name, _ in metric.labels]
        histogram = Histogram(
            metric.name,
            _words(metric.name),
            names,
            registry=self._registry,
            buckets=SECONDS_BUCKETS,
        )
        return self._histograms.setdefault(metric.name, histogram)


class _Gauge(Collector):
    """A gauge that is read at every scrape."""

    def __init__(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        self._name = name
        self._documentation = documentation
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(self._name, self._documentation, value=self._read())


class _LabelledGauge(Collector):
    """As `_Gauge`, with one label."""

    def __init__(
        self, name: str, documentation: str, label: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._read = read

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, number in self._read().items():
            family.add_metric([value], number)
        yield family


def _words(name: str) -> str:
    return name.removeprefix("nixfleet_").removesuffix("_total").replace("_", " ")
