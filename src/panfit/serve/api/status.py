"""STATUS: whether the process lives, and whether it can answer."""

import anyio.to_thread
from fastapi import APIRouter, Response

from panfit.serve.api.asking import ServiceDep
from panfit.serve.engine import Engine
from panfit.serve.problems import RETRY_AFTER_S, documented, problem_response
from panfit.serve.schemas import HealthOut, ReadyOut

router = APIRouter(tags=["status"])


@router.get("/health", operation_id="health", response_model=HealthOut)
async def health(response: Response) -> HealthOut:
    """The process lives. Asks nothing of the model or the database."""
    response.headers["Cache-Control"] = "no-store"
    return HealthOut()


@router.get("/ready", operation_id="ready", response_model=ReadyOut, responses=documented(503))
async def ready(service: ServiceDep, response: Response) -> ReadyOut | Response:
    """The database answers, and the model is prepared. Until then 503; questions that come earlier wait for it."""
    await anyio.to_thread.run_sync(service.likes.ping)
    if service.engine.state != "ready":
        return problem_response(503, _told(service.engine), headers={"Retry-After": str(RETRY_AFTER_S)})
    response.headers["Cache-Control"] = "no-store"
    return ReadyOut()


def _told(engine: Engine) -> str:
    """Why not yet, and how far it is. What went wrong is in the log: it is nothing for strangers."""
    if engine.state != "starting":
        return engine.state
    work = engine.progress
    if work is None:
        return "starting"
    return f"starting: {work.what}" + (f", {work.done} of {work.total}" if work.total else "")
