"""The gauges of retention, read at every scrape."""

from nixfleet_control_plane.history.retention.worker import RetentionWorker
from nixfleet_control_plane.http.metrics import Metrics
from nixfleet_control_plane.service import ControlPlaneService


def register_retention_gauges(
    metrics: Metrics, retention: RetentionWorker, service: ControlPlaneService
) -> None:
    """Register the gauges of `retention`, in the time of `service`."""

    def oldest_age() -> float:
        at = retention.kept.oldest_at
        return 0 if at is None else (service.now() - at).total_seconds()

    def failing() -> float:
        at = retention.failing_since
        return 0 if at is None else (service.now() - at).total_seconds()

    def last_at() -> float:
        return 0 if retention.last_at is None else retention.last_at.timestamp()

    metrics.gauge(
        "nixfleet_log_rows",
        "rows that the log has",
        lambda: service.totals().head_seq - retention.kept.first_seq + 1,
    )
    metrics.gauge("nixfleet_log_oldest_row_age_seconds", "time since the oldest row", oldest_age)
    metrics.gauge(
        "nixfleet_retention_last_export_timestamp_seconds",
        "when rows were exported and dropped last; 0: that is not known",
        last_at,
    )
    metrics.gauge(
        "nixfleet_retention_failing_seconds",
        "since when old rows cannot be exported or dropped; 0: they can",
        failing,
    )
