"""Prometheus metrics: counters of the web server, and the state that every process shares."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from everylabel.backend.store import Store
    from everylabel.backend.store.heartbeat import Heartbeat


MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Prometheus metrics of one backend.

    Args:
        store: The store, which is read at each request.
        heartbeat: The trainer's heartbeat.
    """

    def __init__(self, store: Store, heartbeat: Heartbeat) -> None:
        self._registry = CollectorRegistry()
        self.events = Counter("everylabel_events", "Webhooks taken in", ["action"], registry=self._registry)
        self.predictions = Counter(
            "everylabel_predictions", "Predictions given, by outcome", ["outcome"], registry=self._registry
        )
        if MULTIPROCESS in os.environ:  # several workers: each counts in files, and any of them sums these
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        self._registry.register(_Shared(store, heartbeat))

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return bytes(generate_latest(self._registry))


def health(heartbeat: Heartbeat) -> dict[str, Any]:
    """Return the answer of `/health`: `UP`, and whether the trainer is alive."""
    return {
        "status": "UP",
        "model_class": "ActiveLearningBackend",
        "trainer": "alive" if heartbeat.alive() else "not running",
    }


class _Shared:
    """A collector of state that is read from the store at each request, so that every process returns the same."""

    def __init__(self, store: Store, heartbeat: Heartbeat) -> None:
        self._store = store
        self._heartbeat = heartbeat

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        store = self._store
        waiting, longest = store.events_waiting()
        yield GaugeMetricFamily("everylabel_events_waiting", "Webhooks not processed yet", value=waiting)
        yield GaugeMetricFamily(
            "everylabel_oldest_event_age_seconds",
            "Age of the oldest webhook not processed yet",
            value=longest,
        )
        yield GaugeMetricFamily(
            "everylabel_trainer_alive",
            "Whether the trainer runs",
            value=float(self._heartbeat.alive()),
        )
        told = self._heartbeat.figures()
        for name, help_text in (
            ("label_studio_calls", "Requests of the trainer to Label Studio since it started"),
            ("label_studio_failures", "Requests of the trainer that Label Studio refused or did not answer"),
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
