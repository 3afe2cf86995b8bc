"""Who is asking: an API key or a signed-in browser, what they may do, and whose things they ask about."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Query, Request, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from sluiceway.activity import Action, Event
from sluiceway.api.problems import Unauthorized
from sluiceway.api.world import Service, World
from sluiceway.errors import BadInput, NotAllowed, NotThere
from sluiceway.logs import know
from sluiceway.tenancy.caller import Principal, authenticate_key, authenticate_session
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope, scope_of
from sluiceway.tenancy.tenants import is_there

COOKIE: Final = "sluiceway_session"
CSRF_HEADER: Final = "X-CSRF-Token"
_CHANGES_NOTHING: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False, scheme_name="api_key", description="An API key: `Bearer slw_live_…`.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="api_key_header")
_cookie = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="session",
    description=f"A signed-in browser. What changes something brings the session's token in `{CSRF_HEADER}`.",
)


class Asker(msgspec.Struct, frozen=True):
    """Somebody who has shown who they are, and what of the world they ask about."""

    principal: Principal
    world: World
    service: Service
    scope: Scope

    @property
    def tenant_id(self) -> str:
        """Whose things are made or changed. Raises `BadInput` where a super admin has not said."""
        if self.scope.tenant_id is None:
            raise BadInput("say for which tenant: add ?tenant=… to the address")
        return self.scope.tenant_id

    @property
    def trigger(self) -> str:
        """Through what they ask."""
        return "api" if self.principal.key_id else "console"

    def did(self, action: Action, target: str | None = None, tenant_id: str | None = None) -> Event:
        """Return the record of something they did."""
        whose = tenant_id if tenant_id is not None else self.scope.tenant_id or ""
        return Event(action, whose, self.principal.user_id, self.world.stamp, target)


def service_of(request: Request) -> Service:
    """Return what the request is answered from."""
    service: Service = request.app.state.service
    return service


async def principal_of(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
    header: Annotated[str | None, Security(_header)] = None,
    cookie: Annotated[str | None, Security(_cookie)] = None,
) -> Principal:
    """Return who asks; raises `Unauthorized` where nobody is shown, and `NotAllowed` for another site's request."""
    service = service_of(request)
    key = bearer.credentials if bearer else header
    main = service.main
    if key:
        principal = await main.read(authenticate_key, key)
    else:
        principal = await main.read(authenticate_session, cookie, main.now) if cookie else None
    if principal is None:
        raise Unauthorized("this key or session does not hold" if key or cookie else "")
    session = principal.session if request.method not in _CHANGES_NOTHING else None
    if session and not session.accepts(request.headers.get(CSRF_HEADER, "")):
        raise NotAllowed(f"a change needs the session's token in the header {CSRF_HEADER}")
    know(user_id=principal.user_id, tenant_id=principal.tenant_id)
    service.uses.note(principal)
    return principal


TenantNamed = Annotated[
    str | None,
    Query(alias="tenant", description="Whose things are meant. Only a super admin can name another tenant."),
]


async def asker_of(
    request: Request, principal: Annotated[Principal, Depends(principal_of)], tenant: TenantNamed = None
) -> Asker:
    """Return who asks, about whose things."""
    service = service_of(request)
    scope = scope_of(principal, tenant)
    if tenant is not None and principal.tenant_id is None and not await service.main.read(is_there, tenant):
        raise NotThere(f"there is no tenant {tenant!r}")
    return Asker(principal, await service.world_of(principal), service, scope)


def who_may(permission: Permission) -> Any:
    """Return the dependency that lets those ask who may do something, and gives the route who it is."""

    async def asker(asker: Annotated[Asker, Depends(asker_of)]) -> Asker:
        asker.principal.must(permission)
        return asker

    return Security(asker, scopes=[permission.value])  # which the OpenAPI document then names


def who_manages(permission: Permission) -> Any:
    """Like `who_may`, for who comes in and what is kept about that: it is the main world's, and no test key's."""

    async def asker(asker: Annotated[Asker, Depends(asker_of)]) -> Asker:
        asker.principal.must(permission)
        if asker.principal.sandbox_only:
            raise NotAllowed("a test key reaches only the sandbox: use a live key, or sign in")
        return asker

    return Security(asker, scopes=[permission.value])
