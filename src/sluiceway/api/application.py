"""The web application: every route, who answers what, and the OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from sluiceway.api import (
    activity,
    admin,
    audit,
    batches,
    credentials,
    enriching,
    exports,
    health,
    keys,
    metrics,
    prospects,
    runs,
    searches,
    session,
    signing_in,
    suppressions,
    tenants,
    uploads,
    usage,
    users,
    webhooks,
)
from sluiceway.api.answers import components, described_problem
from sluiceway.api.bodies import Bounded
from sluiceway.api.headers import Headers
from sluiceway.api.problems import handle_errors
from sluiceway.api.requests import Requests
from sluiceway.api.world import Service
from sluiceway.pipeline.measured import Measures

ROUTERS: Final = (
    uploads.router,
    exports.router,
    prospects.router,
    runs.router,
    enriching.router,
    batches.router,
    searches.router,
    suppressions.router,
    webhooks.router,
    session.router,
    keys.router,
    users.router,
    tenants.router,
    credentials.router,
    audit.router,
    usage.router,
    activity.router,
)
"""Everything below `/api/v1`."""

BESIDE: Final = (admin.router, signing_in.router, health.router, metrics.router)
"""What is for whoever runs the service, and the pages by which people come in."""

_ABOUT: Final = """\
People are enriched by five providers, and every call to one is accounted for.

Money is in integer micro-dollars and credits in integer milli-credits; `null` is unknown, and never zero. Moments are
ISO 8601, days are UTC days. Errors are problems (RFC 9457) whose `detail` says what to do.
"""


class Application(FastAPI):
    """The web application; what is told of every request is around all that may answer it, errors included."""

    def build_middleware_stack(self) -> ASGIApp:
        """Return the application as it is called."""
        return Requests(super().build_middleware_stack(), self.state.heard.note)


def build(opened: Callable[[], AbstractAsyncContextManager[Service]]) -> FastAPI:
    """Return the application; `opened` opens what it answers from, for as long as it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened() as service:
            app.state.service, app.state.loop = service, asyncio.get_running_loop()
            yield

    app = Application(
        title="Sluiceway",
        version=version("sluiceway"),
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # what clients call an operation
    )
    app.state.ready, app.state.heard, app.state.measures = lambda: None, metrics.Heard(), Measures()
    v1 = APIRouter(prefix="/api/v1")
    for router in ROUTERS:
        v1.include_router(router)
    app.include_router(v1)
    for router in BESIDE:
        app.include_router(router)
    app.add_middleware(Bounded)
    app.add_middleware(Headers)
    handle_errors(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the document, with the schemas of our own structs among its components."""
    if app.openapi_schema is None:
        said = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        said.setdefault("components", {}).setdefault("schemas", {}).update(components())
        for operation in (each for path in said["paths"].values() for each in path.values()):
            if "requestBody" in operation:
                operation["responses"].setdefault("413", described_problem(413))
        app.openapi_schema = said
    return app.openapi_schema
