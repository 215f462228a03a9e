"""The newest Status in Prometheus's words, and how late the program itself is. A scrape reads; it
never wakes or delays anything."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from shared.status import MemoryRow, Phase, Status

MODEL = ["box", "model"]
ROW = ["box", "device"]


def exposition(status: Status, lag: float) -> tuple[bytes, str]:
    """The body of an answer to a scrape, and its content type. `lag`: of the loop, in seconds."""
    registry = CollectorRegistry()
    registry.register(_FromStatus(status, lag))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _FromStatus(Collector):
    def __init__(self, status: Status, lag: float) -> None:
        self._status = status
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        yield self._build()
        yield self._of_the_loop()
        yield self._phases()
        yield self._of_models("in_flight", "Requests that an engine serves now.")
        yield self._of_models("waiting", "Requests that routers say wait for a model here.")
        yield self._of_rows("used", "Bytes in use, whoever uses them.")
        yield self._of_rows("reserved", "Bytes booked for engines.")
        yield self._of_rows("total", "Bytes there are.")

    def _build(self) -> Metric:
        build = GaugeMetricFamily("swapyard_build_info", "Always 1.", labels=["version"])
        build.add_metric([version("swapyard")], 1)
        return build

    def _of_the_loop(self) -> Metric:
        said = "How late the event loop was at most, in the last minute."
        return GaugeMetricFamily("swapyard_loop_lag_seconds", said, value=self._lag)

    def _phases(self) -> Metric:
        gauge = GaugeMetricFamily(
            "swapyard_phase", "1 for the phase that an engine is in.", labels=[*MODEL, "phase"]
        )
        for model in self._status.models:
            for phase in Phase:
                labels = [self._status.box, model.id, phase.value]
                gauge.add_metric(labels, float(model.phase is phase))
        return gauge

    def _of_models(self, name: str, help: str) -> Metric:
        gauge = GaugeMetricFamily(f"swapyard_{name}", help, labels=MODEL)
        for model in self._status.models:
            gauge.add_metric([self._status.box, model.id], getattr(model, name))
        return gauge

    def _of_rows(self, name: str, help: str) -> Metric:
        gauge = GaugeMetricFamily(f"swapyard_memory_{name}_bytes", help, labels=ROW)
        for row in self._status.memory:
            gauge.add_metric([self._status.box, _device(row)], getattr(row, name))
        return gauge


def _device(row: MemoryRow) -> str:
    return "host" if row.index is None else f"gpu{row.index}"
