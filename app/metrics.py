"""Prometheus metrics of the API.

With several API processes each writes to its own files in a shared folder (prometheus_client's
multiprocess mode), so that any of them can answer a scrape for all. Job metrics, the images that
jobs make among them, are read from Redis at each scrape: workers may run on other machines.
"""

import os
from collections.abc import Iterator
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from worker.damage import damaged_objects
from worker.datasets.leftovers import swept_leftovers
from worker.ledger.job_counters import BOUNDS_S, MOST_MODELS, OTHERS, JobCounters
from worker.queue.queue_stats import QueueStats

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported
SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
IMAGES = "generated_images"
IMAGES_TEXT = "Images generated; way: sync in answers, bulk by jobs."
IMAGES_LABELS = ["model", "way"]


class Metrics:
    """Counters, histograms and gauges of one API process."""

    def __init__(self) -> None:
        # Prometheus does not use the additional `_created` series.
        disable_created_metrics()  # type: ignore[no-untyped-call] # it has no annotation
        self.registry = registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self.requests = _counter("http_requests", "HTTP requests answered.", labels, registry)
        self.request_seconds = Histogram(
            "vitrine_http_request_duration_seconds",
            "From a request's headers to the last byte of its answer.",
            ["method", "route"],
            buckets=REQUEST_S,
            registry=registry,
        )
        self.queue_seconds = _times("queue", "A generate request's wait for its turn.", registry)
        self.compute_seconds = _times("compute", "Forward passes of generators.", registry)
        self.encode_seconds = _times("encode", "Enhancing and encoding of images.", registry)
        self.batch_images = Histogram(
            "vitrine_generate_batch_images",
            "Images in one forward pass.",
            buckets=SIZES,
            registry=registry,
        )
        self.images = _counter(IMAGES, IMAGES_TEXT, IMAGES_LABELS, registry)
        self.waiting = Gauge(
            "vitrine_generate_waiting_requests",
            "Generate requests that wait for their images, the one being computed included.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        rejected = "Images that min_category_probability has rejected in answers."
        self.rejections = _counter("rejected_images", rejected, ["model"], registry)
        fallbacks = "POST /generate requests that the fast path handed to the FastAPI route."
        self.fallbacks = _counter("fast_path_fallbacks", fallbacks, ["reason"], registry)
        failures = "Background loops that failed by a fault and were started again."
        self.loop_failures = _counter("background_loop_failures", failures, ["loop"], registry)
        registry.register(damaged_objects)
        registry.register(swept_leftovers)
        self._models: set[str] = set()
        self._series = cache(self._series_of)

    def answered(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count and time a request whose answer is complete."""
        requests, seconds = self._series(method, route, status)
        requests.inc()
        seconds.observe(duration_s)

    def fell_back(self, reason: str) -> None:
        """Count a `POST /generate` that the fast path has declined."""
        self.fallbacks.labels(reason).inc()

    def waited(self, queue_s: float, encode_s: float) -> None:
        """Record the queueing and encoding time of a generate request that has its images."""
        self.queue_seconds.observe(queue_s)
        self.encode_seconds.observe(encode_s)

    def rejected(self, model: str, images: int) -> None:
        """Count images, computed before, that did not show their category."""
        self.rejections.labels(model if model in self._models else OTHERS).inc(images)

    def computed(self, model: str, images: int, compute_s: float) -> None:
        """Record a forward pass."""
        if len(self._models) < MOST_MODELS:
            self._models.add(model)
        self.images.labels(model if model in self._models else OTHERS, "sync").inc(images)
        self.batch_images.observe(images)
        self.compute_seconds.observe(compute_s)

    def _series_of(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """Series of a request; cached, as the lookup by labels takes longer than counting."""
        return (
            self.requests.labels(method, route, str(status)),
            self.request_seconds.labels(method, route),
        )

    def exposition(self, stats: QueueStats | None) -> bytes:
        """All metrics in Prometheus's text format; `stats` is None if Redis is unreachable."""
        registry, folder = self.registry, os.environ.get(FOLDER)
        if folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call] # no annotation
        whole = CollectorRegistry()
        whole.register(ServiceCollector(registry, stats))
        return generate_latest(whole)


class ServiceCollector(Collector):
    """Prometheus collector of the API's metrics and the job system's statistics."""

    def __init__(self, api: CollectorRegistry, stats: QueueStats | None) -> None:
        self.api = api
        self.stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; without `stats`, of the job system only `vitrine_redis_up`."""
        # One family of both, as a family may occur once.
        images = CounterMetricFamily(f"vitrine_{IMAGES}", IMAGES_TEXT, labels=IMAGES_LABELS)
        for metric in self.api.collect():
            if metric.name == images.name:
                images.samples += metric.samples
            else:
                yield metric
        for model, count in sorted(self.stats.counters.images.items()) if self.stats else ():
            images.add_metric([model, "bulk"], count)
        yield images
        yield from self._jobs()

    def _jobs(self) -> Iterator[Metric]:
        up = float(self.stats is not None)
        yield GaugeMetricFamily("vitrine_redis_up", "Whether Redis has answered.", up)
        if self.stats is None:
            return
        gauges = {
            "job_queue_depth": ("Jobs on a queue.", self.stats.depths),
            "workers": ("Living workers that serve a queue, busy or not.", self.stats.workers),
        }
        for name, (text, values) in gauges.items():
            gauge = GaugeMetricFamily(f"vitrine_{name}", text, labels=["queue"])
            for queue, value in values.items():
                gauge.add_metric([queue], value)
            yield gauge
        yield GaugeMetricFamily(
            "vitrine_training_images_per_second",
            "Images a second, of all trainings that run.",
            self.stats.images_per_second,
        )
        yield from _ended(self.stats.counters)


def _counter(what: str, text: str, labels: list[str], registry: CollectorRegistry) -> Counter:
    return Counter(f"vitrine_{what}", text, labels, registry=registry)


def _times(what: str, text: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(f"vitrine_generate_{what}_seconds", text, buckets=SHORT_S, registry=registry)


def _ended(counters: JobCounters) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "vitrine_jobs_ended", "Jobs that have ended.", labels=["type", "status"]
    )
    for labels, count in sorted(counters.ended.items()):
        ended.add_metric(labels, count)
    yield ended
    took = HistogramMetricFamily(
        "vitrine_job_duration_seconds", "From a job's start to its end.", labels=["type"]
    )
    bounds = [*(str(float(bound)) for bound in BOUNDS_S), "+Inf"]
    for job_type, durations in sorted(counters.durations.items()):
        buckets = list(zip(bounds, map(float, durations.cumulative), strict=True))
        took.add_metric([job_type], buckets, durations.total_s)
    yield took
