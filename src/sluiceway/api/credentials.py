"""A tenant's own keys for providers: which there are, setting one, taking it away. None is ever shown."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import Connection

from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_manages
from sluiceway.errors import BadInput, NotThere
from sluiceway.store.secret import SecretKey, secret_key
from sluiceway.tenancy.credentials import Credential, all_credentials, set_credential, unset_credential
from sluiceway.tenancy.roles import Permission

router = APIRouter(prefix="/credentials", tags=["credentials"])

Manager = Annotated[Asker, who_manages(Permission.MANAGE_CREDENTIALS)]


class CredentialAsked(BaseModel):
    """A tenant's key for a provider."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"value": "the key, as Apollo gave it"}]})

    value: SecretStr = Field(max_length=1000, description="The key itself. It is sealed, and never shown again.")


@router.get("", **answers(list[Credential]))
async def list_credentials(asker: Manager) -> Json:
    """List the tenant's own keys by provider, each told by its digest. One per provider, so there are no pages."""
    return Json(await asker.world.read(all_credentials, asker.tenant_id))


@router.put("/{provider}", name="set_credential", **answers(Credential))
async def set_(provider: str, asked: CredentialAsked, asker: Manager) -> Json:
    """Ask a provider with the tenant's own key, from the next second on.

    Its calls are that key's own: its pace, its stops, its meters; they are in no quota of the platform's.
    """
    _check_takes_a_key(asker, provider)
    value, key = asked.value.get_secret_value().strip(), await asyncio.to_thread(_sealing, asker)
    by, now = asker.principal.actor, asker.world.now
    return Json(await asker.world.write(set_credential, asker.tenant_id, provider, value, key, by=by, now=now))


@router.delete("/{provider}", name="unset_credential", **answers(Credential, problems=[404], description="Taken away."))
async def unset(provider: str, asker: Manager) -> Json:
    """Forget the tenant's own key for a provider; the platform's is used for it from the next second on."""

    def forget(connection: Connection) -> Credential:
        if provider not in {held.provider for held in all_credentials(connection, asker.tenant_id)}:
            raise NotThere(f"there is no own key for {provider!r}")
        return unset_credential(connection, asker.tenant_id, provider, by=asker.principal.actor, now=asker.world.now)

    return Json(await asker.world.write(forget))


def _check_takes_a_key(asker: Asker, provider: str) -> None:
    takers = {s.provider for s in asker.world.sources.values() if s.needs and s.needs.secret}
    if provider not in takers:
        raise BadInput(f"{provider!r} is no provider that takes a key; there are {', '.join(sorted(takers))}")


def _sealing(asker: Asker) -> SecretKey:
    settings = asker.world.settings
    return secret_key(settings.secret_key.get_secret_value(), settings.database_url, make=True)
