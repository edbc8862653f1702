"""APP: a ready Recommender -> the ASGI application. Nothing is opened, started or computed before its lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from fastapi import FastAPI

import panfit
from panfit.recommend import Recommender
from panfit.serve import access_log, guard, metrics, photos, problems
from panfit.serve.api import (
    document,
    explanations,
    items,
    newcomers,
    outfits,
    people,
    photo_scores,
    status,
    tags,
)
from panfit.serve.engine import Engine
from panfit.serve.likes import LikesStore
from panfit.serve.page import routes as page
from panfit.serve.service import Service
from panfit.serve.settings import ServeConfig

ROUTERS = (  # those that are asked most come first: routes are tried one after the other
    outfits.router,
    status.router,
    people.router,
    newcomers.router,
    photo_scores.router,
    explanations.router,
    items.router,
    photos.router,
    page.router,
)


def create_app(recommender: Recommender, config: ServeConfig, *, likes: LikesStore | None = None) -> FastAPI:
    """The HTTP service of a Recommender, which nobody else may use from now on.

    Args:
        recommender: trained.
        config: database, token, limits.
        likes: opened and closed by the app; None: of ``config.database``.

    It runs once its lifespan has started, where DataError is raised if the database cannot be had. It runs only once:
    its engine, stopped, does not start again.
    """
    if likes is None:
        likes = LikesStore(config.database, max_opinions=config.limits.opinions)
    engine = Engine(recommender, waiting=config.limits.waiting, seconds=config.limits.seconds)
    service = Service(engine, likes, config)
    app = FastAPI(
        title="panfit",
        version=panfit.__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # an id may end with a slash
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    document.install(app, config, lambda: service.dataset.slots)
    problems.install(app)  # each next one stands around those before
    guard.install(app, config)
    metrics.install(app, service)
    access_log.install(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    app.state.drawing = anyio.CapacityLimiter(explanations.DRAWN_AT_ONCE)
    app.state.catalogue = await anyio.to_thread.run_sync(tags.CatalogueState, service.engine.recommender)
    await anyio.to_thread.run_sync(service.likes.open)
    try:
        service.engine.start()
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(service.engine.stop)
    finally:
        await anyio.to_thread.run_sync(service.likes.close)
