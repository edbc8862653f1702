"""METRICS: how the service fares, as Prometheus reads it, at /metrics. Numbers only: no id, no address, no name.

A registry belongs to an app, so to one process. With several workers a scrape reads whichever takes it (`panfit_worker`
says which), and its counters are that worker's alone: gauges help then, rates do not. Where rates matter, let each
process have a port of its own.
"""

import os
import time
from collections.abc import Callable

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import panfit
from panfit.serve.access_log import method_of, route_of
from panfit.serve.likes import UnavailableError
from panfit.serve.photos import thumbnails_of
from panfit.serve.service import Service

LATENCIES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
COUNT_SECONDS = 5.0
"""So long a count of the newcomers is told again before the database is asked anew."""
UNANSWERED = "none"
"""The status of a request whose client left before it was answered."""

router = APIRouter(tags=["status"])


class Metrics:
    """One app's numbers.

    Args:
        service: whose.
        now: seconds that never go back; a test brings its own.
    """

    def __init__(self, service: Service, *, now: Callable[[], float] = time.monotonic) -> None:
        self._service, self._now = service, now
        self.registry = registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("panfit_http_requests", "Requests answered.", labels, registry=registry)
        self.seconds = Histogram(
            "panfit_http_request_seconds",
            "From a request's head to the last byte of its answer.",
            labels[:2],
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.running = Gauge("panfit_http_requests_running", "Requests that are being answered.", registry=registry)
        self._waiting = Gauge("panfit_questions_waiting", "That the model has not begun to answer.", registry=registry)
        self._kept = Gauge("panfit_kept_answer_bytes", "Of answers and rankings held in memory.", registry=registry)
        self._batches = Histogram(
            "panfit_batch_size", "Questions that the model was asked at a time.", buckets=BATCHES, registry=registry
        )
        self._waits = Histogram(
            "panfit_wait_seconds",
            "From a question to the model until it was taken up.",
            buckets=LATENCIES_S,
            registry=registry,
        )
        self._is_ready = Gauge("panfit_ready", "Whether the model is prepared.", registry=registry)
        self._newcomers = Gauge("panfit_newcomers", "Newcomers in the database.", registry=registry)
        self._is_up = Gauge("panfit_database_up", "Whether the database answers.", registry=registry)
        self._held = Gauge("panfit_thumbnail_bytes", "Of thumbnails held in memory.", registry=registry)
        worker = Gauge("panfit_worker", "Which process was read.", ("pid", "version"), registry=registry)
        worker.labels(str(os.getpid()), panfit.__version__).set(1)
        ProcessCollector(registry=registry)  # process_resident_memory_bytes, _cpu_seconds_total, _open_fds ...
        self._counted_at = -COUNT_SECONDS

    def batch(self, size: int) -> None:
        """So many questions were taken up at a time. With `waited`, what `Engine.observer` is to have."""
        self._batches.observe(size)

    def waited(self, seconds: float) -> None:
        """One of them had waited so long."""
        self._waits.observe(seconds)

    def read(self, app: FastAPI) -> bytes:
        """All of it, as text. Asks the database, so not in the event loop."""
        if self._now() - self._counted_at >= COUNT_SECONDS:
            try:
                self._newcomers.set(self._service.likes.count())
                self._is_up.set(1)
            except UnavailableError:
                self._is_up.set(0)
            self._counted_at = self._now()
        engine = self._service.engine
        self._waiting.set(engine.num_waiting)
        self._kept.set(engine.kept_bytes)
        self._is_ready.set(engine.state == "ready")
        self._held.set(thumbnails_of(app).num_bytes)
        return generate_latest(self.registry)


class Meter:
    """The ASGI middleware that counts and times requests.

    Args:
        app: the ASGI application.
        metrics: where to.
        now: seconds that never go back; a test brings its own.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, now: Callable[[], float] = time.perf_counter) -> None:
        self._app, self._metrics, self._now = app, metrics, now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        since, status = self._now(), UNANSWERED

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.running.dec()
            labels = method_of(scope), route_of(scope)
            self._metrics.requests.labels(*labels, status).inc()
            self._metrics.seconds.labels(*labels).observe(self._now() - since)


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read_metrics(request: Request) -> Response:
    """How the service fares, in Prometheus's text format."""
    metrics: Metrics = request.app.state.metrics
    told = await anyio.to_thread.run_sync(metrics.read, request.app)
    return Response(told, headers={"Cache-Control": "no-store"}, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def install(app: FastAPI, service: Service) -> None:
    """Count an app's requests, those that its guard refused too, and tell of them at /metrics.

    To be called after the guard's own `install`.

    Args:
        app: not started yet.
        service: the app's.
    """
    app.state.metrics = service.engine.observer = Metrics(service)
    app.include_router(router)
    app.add_middleware(Meter, metrics=app.state.metrics)
