"""The web application: every route, who answers what, and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from sluiceway.api import activity, admin, batches, prospects, usage
from sluiceway.api.answers import components
from sluiceway.api.problems import handle_errors
from sluiceway.api.world import Service

ROUTERS: Final = (prospects.router, batches.router, usage.router, activity.router)
"""Everything below `/api/v1`."""

_ABOUT: Final = """\
People are enriched by five providers, and every call to one is accounted for.

Money is in integer micro-dollars and credits in integer milli-credits; `null` is unknown, and never zero. Moments are
ISO 8601, days are UTC days. Errors are problems (RFC 9457) whose `detail` says what to do.
"""


def build(opened: Callable[[], AbstractAsyncContextManager[Service]]) -> FastAPI:
    """Return the application; `opened` opens what it answers from, for as long as it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as service:
            app.state.service, app.state.loop = service, asyncio.get_running_loop()
            app.state.ready()
            yield

    app = FastAPI(
        title="Sluiceway",
        version=version("sluiceway"),
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.ready = lambda: None
    v1 = APIRouter(prefix="/api/v1")
    for router in ROUTERS:
        v1.include_router(router)
    app.include_router(v1)
    app.include_router(admin.router)
    handle_errors(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the document, with the schemas of our own structs among its components."""
    if app.openapi_schema is None:
        said = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        said.setdefault("components", {}).setdefault("schemas", {}).update(components())
        app.openapi_schema = said
    return app.openapi_schema
