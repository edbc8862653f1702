"""GUARD: stands around an app, and lets through what it should see. What is refused has cost next to nothing.

hosts      is this service meant at all (421)         clients    who asks, proxies aside
rates      not too often (429)                        access     with the token, or logged in (401)
bodies     not too much, not too slowly (413, 408)    headers    what browsers are told with each answer
refusals   how a refusal is told: as a problem, or to people
"""

from fastapi import FastAPI

from panfit.serve.guard.door import Door
from panfit.serve.settings import ServeConfig


def install(app: FastAPI, config: ServeConfig) -> None:
    """Put the guard around an app whose ``state.service`` is its Service. To be called after all that it shall guard.

    Args:
        app: not started yet.
        config: token, limits, trusted proxies.
    """
    app.add_middleware(Door, config=config)
