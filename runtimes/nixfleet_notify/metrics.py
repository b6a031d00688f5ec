"""Metrics of a notifier, as a file for the textfile collector of Prometheus' node exporter.

A port of its own would be one more thing to protect; the file is read where metrics of the machine are.
Source: docs/spec/notifications.md, Metrics.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nixfleet_notify.delivery.engine import behind
from nixfleet_notify.service import Notifier
from nixfleet_runtime.storage.replaced_file import replace_file


class _Shown(Collector):
    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment. Labels are the names of hooks, which the configuration has."""
        notifier = self._notifier
        sight = notifier.sight
        yield GaugeMetricFamily(
            "nixfleet_notify_control_plane_silent",
            "1 while the control plane is silent for longer than silent_after_seconds",
            value=float(sight.is_silent),
        )
        yield GaugeMetricFamily(
            "nixfleet_notify_control_plane_heard_timestamp_seconds",
            "when the control plane answered last",
            value=0.0 if sight.heard_at is None else sight.heard_at.timestamp(),
        )
        yield GaugeMetricFamily(
            "nixfleet_notify_needs_open",
            "what needs a person and has no row of its own",
            value=float(sum(need.absent_since is None for need in sight.needs)),
        )
        read_at = notifier.needs_read_at
        yield GaugeMetricFamily(
            "nixfleet_notify_needs_read_timestamp_seconds",
            "when what needs a person was read last; 0: not since the start",
            value=0.0 if read_at is None else read_at.timestamp(),
        )
        delivered = CounterMetricFamily(
            "nixfleet_notify_delivered", "messages that were answered with 2xx", labels=("hook",)
        )
        gauges = {
            name: GaugeMetricFamily(f"nixfleet_notify_{name}", words, labels=("hook",))
            for name, words in (
                ("rows_behind", "rows of the log that are not settled"),
                ("seconds_behind", "how old the oldest is that is to be told and was not"),
                ("dead_letters", "messages that were given up"),
                ("failures_in_a_row", "attempts that failed since the last one that did not"),
                ("disabled", "1 while nothing is sent until an operator retries"),
            )
        }
        for name, hook in notifier.hooks.items():
            state = hook.engine.state
            delivered.add_metric((name,), state.delivered)
            for gauge, value in (
                ("rows_behind", behind(state, sight)),
                ("seconds_behind", _age_seconds(hook.engine.waits_since, notifier.now())),
                ("dead_letters", hook.engine.dead_count),
                ("failures_in_a_row", state.failures),
                ("disabled", int(bool(state.disabled))),
            ):
                gauges[gauge].add_metric((name,), value)
        yield delivered
        yield from gauges.values()


def _age_seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def metrics_text(notifier: Notifier) -> bytes:
    """Return the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Shown(notifier))
    return generate_latest(registry)


def write_metrics(file: Path, notifier: Notifier) -> None:
    """Replace the file of metrics. Others may read it. Raises: OSError."""
    replace_file(file, metrics_text(notifier), mode=0o644)
