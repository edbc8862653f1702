"""RUN: a Start and a socket -> a service that runs until it is told to stop, in one process or in several.

    SIGTERM            no new requests; those under way are finished, `GRACE_SECONDS` at most; exit status 0
    Ctrl-C             the same, exit status 130; a second Ctrl-C does not wait
    kill -9            loses nothing that was acknowledged: likes are on disk before they are
    SIGHUP             with several workers: new ones, one after the other, which read the run again

Each worker has a model of its own; code tables are mapped into memory and shared. The parent starts a dead one again.
Any ASGI server can run the service too: ``uvicorn --factory panfit.serve.run:app_from_environment``.
"""

import functools
import gc
import http.client
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from panfit.errors import ConfigError, PanfitError
from panfit.serve import access_log
from panfit.serve.likes import LikesStore
from panfit.serve.protocol import BoundedProtocol
from panfit.serve.settings import ServeConfig
from panfit.serve.start import BACKLOG, Start, make_config, url_of
from panfit.serve.workers import MISTAKE, STOP_SECONDS, Workers

logger = logging.getLogger("panfit.serve")

GRACE_SECONDS = 15
"""Requests under way may take so long once the service is to stop."""
KEEP_ALIVE_SECONDS = 75
"""An idle connection is kept: longer than nginx keeps one to us (60), so that it never sends into a closed one."""
CONNECTIONS = 512
"""At once, of one process; beyond, uvicorn answers 503. Half of the 1,024 files that a process may usually open."""
TRUE = ("1", "true", "yes", "on")


def make_app(start: Start, *, threads: int | None = None) -> FastAPI:
    """The application of a run, with its model loaded.

    Args:
        start: what to serve.
        threads: torch's; None: as torch has it.

    Raises:
        ConfigError: the run is not PAN's.
        PanfitError: whatever `panfit.load` says.
    """
    import torch

    from panfit.loading import CODES_FOLDER, load
    from panfit.serve.app import create_app

    if threads is not None:
        torch.set_num_threads(threads)
    recommender = load(
        start.run,
        data=start.data,
        allow_changed=start.allow_changed,
        trunk_weights=start.trunk_weights,
        cache=start.codes or CODES_FOLDER,
    )
    if recommender.pan is None:
        raise ConfigError(
            f"{start.run}: found a run of a rival; only PAN can be served. Train one with a recipe that says "
            'method = "pan"'
        )
    app = create_app(recommender, start.config)
    gc.freeze()  # what is loaded stays: looking through it for garbage would hold up a request, again and again
    return app


def app_from_environment(environ: Mapping[str, str] = os.environ) -> FastAPI:
    """The application that PANFIT_RUN and the other variables of `panfit serve` name. Raises as `make_app`, OSError."""

    def path(name: str) -> Path | None:
        return Path(environ[name]) if environ.get(name) else None

    def yes(name: str) -> bool:
        return environ.get(name, "").lower() in TRUE

    run = path("PANFIT_RUN")
    if run is None:
        raise ConfigError("PANFIT_RUN is not set; it names the run folder to serve")
    config = make_config(
        run,
        database=environ.get("PANFIT_DATABASE") or None,
        password_file=path("PANFIT_DATABASE_PASSWORD_FILE"),
        token=environ.get("PANFIT_TOKEN") or None,
        token_file=path("PANFIT_TOKEN_FILE"),
        limits_file=path("PANFIT_LIMITS"),
        trusted_proxies=tuple(environ.get("PANFIT_TRUSTED_PROXY", "").split()),
        secure_cookies=yes("PANFIT_SECURE_COOKIES"),
    )
    return make_app(
        Start(
            run=run,
            config=config,
            data=path("PANFIT_DATA"),
            allow_changed=yes("PANFIT_ALLOW_CHANGED"),
            trunk_weights=path("PANFIT_TRUNK_WEIGHTS"),
            codes=path("PANFIT_CODES"),
        )
    )


def serve(start: Start, listener: socket.socket, *, workers: int = 1, ready: Callable[[str], None]) -> None:
    """Serve until the process is told to stop: returns after SIGTERM.

    Args:
        start: what to serve.
        listener: a bound socket; it is closed in the end.
        workers: processes.
        ready: is told the page's address once the service can answer.

    Raises:
        PanfitError: the run cannot be loaded, or the database not be had.
        KeyboardInterrupt: after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, _leave)
    access_log.to_stderr()
    with listener:
        check_database(start.config)
        _tell_when_ready(url_of(listener), start.config, ready)
        if workers == 1:
            _Server(_server_config(make_app(start))).run(sockets=[listener])
        else:
            threads = max(1, (os.cpu_count() or 1) // workers)
            if Workers(functools.partial(_work, start, threads), listener, workers).run() == signal.SIGINT:
                raise KeyboardInterrupt


def check_database(config: ServeConfig) -> None:
    """Make or migrate the database, before anything listens to requests. Raises DataError with a remedy."""
    likes = LikesStore(config.database)
    likes.open()
    likes.close()


def is_ready(url: str, config: ServeConfig) -> bool:
    """Whether a service says that it can answer."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=5)
    headers = {} if config.token is None else {"Authorization": f"Bearer {config.token.get_secret_value()}"}
    try:
        connection.request("GET", "/ready", headers=headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class _Server(uvicorn.Server):
    """uvicorn's, which ends in bounded time, and tells when it has started."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            _end_in(STOP_SECONDS)
        super().handle_exit(sig, frame)


def _server_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,  # the application writes its own lines
        access_log=False,
        proxy_headers=False,  # the application reads them, of trusted proxies alone
        server_header=False,
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _work(start: Start, threads: int, listener: socket.socket, telling: Connection) -> None:
    """What a worker does. A mistake ends it in a way that its parent does not try again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to all at once; the parent says when
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
    access_log.to_stderr()
    try:
        app = make_app(start, threads=threads)
    except PanfitError as error:
        logger.error("%s", error)
        sys.exit(MISTAKE)
    _Server(_server_config(app), started=lambda: telling.send_bytes(b"serving")).run(sockets=[listener])


def _follow_parent() -> None:
    """End when the parent has ended: an orphan would hold the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        _end_in(STOP_SECONDS)


def _tell_when_ready(url: str, config: ServeConfig, ready: Callable[[str], None]) -> None:
    def wait() -> None:
        while not is_ready(url, config):
            time.sleep(0.05)
        ready(url)

    threading.Thread(target=wait, name="ready", daemon=True).start()


def _end_in(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _leave(sig: int, frame: FrameType | None) -> None:
    sys.exit(0)
