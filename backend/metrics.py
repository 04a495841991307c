"""What an operator can ask: counters of the web server, and the state every process shares."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from everylabel.backend.services import Services


MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Prometheus metrics of one backend."""

    def __init__(self, services: Services) -> None:
        self._registry = CollectorRegistry()
        self.events = Counter("everylabel_events", "Webhooks taken in", ["action"], registry=self._registry)
        self.predictions = Counter(
            "everylabel_predictions", "Predictions given, by outcome", ["outcome"], registry=self._registry
        )
        if MULTIPROCESS in os.environ:  # several workers: each counts in files, and any of them sums these
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        self._registry.register(_Shared(services))

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return bytes(generate_latest(self._registry))


class _Shared:
    """State read from the store at the moment of asking, so that every process tells the same."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        store = self._services.store
        waiting, oldest = store.events_waiting()
        yield GaugeMetricFamily("everylabel_events_waiting", "Webhooks not yet worked in", value=waiting)
        yield GaugeMetricFamily(
            "everylabel_oldest_event_age_seconds",
            "Age of the oldest webhook not yet worked in",
            value=0.0 if oldest is None else max(0.0, self._services.clock() - oldest),
        )
        yield GaugeMetricFamily(
            "everylabel_trainer_alive",
            "Whether the trainer runs",
            value=float(self._services.trainer_alive()),
        )
        told = self._services.heartbeat.figures()
        for name, help_text in (
            ("label_studio_calls", "Requests of the trainer to Label Studio since it started"),
            ("label_studio_failures", "Those that Label Studio refused or did not answer"),
        ):
            yield GaugeMetricFamily(f"everylabel_{name}", help_text, value=told.get(name, 0.0))
        labels = ["project"]
        crops = GaugeMetricFamily(
            "everylabel_crops", "Crops by state: embedded, missing, unreadable", labels=[*labels, "state"]
        )
        rounds = GaugeMetricFamily("everylabel_round", "Number of the newest round", labels=labels)
        seconds = GaugeMetricFamily(
            "everylabel_round_seconds", "Duration of the newest round by phase", labels=[*labels, "phase"]
        )
        given = GaugeMetricFamily("everylabel_labels", "Labels the newest round learned from", labels=labels)
        for project in store.projects():
            for state, count in store.count_tasks(project.id).items():
                crops.add_metric([str(project.id), state], count)
            latest = store.latest_round(project.id)
            if latest is None:
                continue
            rounds.add_metric([str(project.id)], latest.number)
            given.add_metric([str(project.id)], latest.n_labels)
            for phase, value in latest.seconds.items():
                seconds.add_metric([str(project.id), phase], value)
        yield from (crops, rounds, given, seconds)
