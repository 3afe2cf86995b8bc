"""What operators change: limits, pauses, and what is known of a lost call. Each change is audited where it is made.

Commands and the API give the same orders here; a name that is misspelt would limit or stop nothing, and is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, exists, select

from sluiceway import activity
from sluiceway.activity import Action, Event
from sluiceway.errors import BadInput
from sluiceway.outcome import timestamp
from sluiceway.pipeline.controls import close_breaker, lift_pause, set_pause
from sluiceway.pipeline.gate import Pause
from sluiceway.store.schema import batches
from sluiceway.tenancy.audit import record
from sluiceway.tenancy.tenants import tenant_of
from sluiceway.usage.quota import Quota, all_quotas, set_quota, unset_quota
from sluiceway.usage.resolve import Resolution, Resolved, resolve


def change_quota(connection: Connection, quota: Quota, *, by: str, user: str, now: datetime) -> None:
    """Make a limit hold from the next call on. `by` is for the audit; `user` is recorded to have done it.

    Raises `BadInput` for a tenant there is none of, and for what cannot be a limit.
    """
    if quota.tenant_id is not None:
        tenant_of(connection, quota.tenant_id)
    set_quota(connection, quota, by=user, now=timestamp(now))
    _note_quota(connection, "quota.set", quota.id, quota.tenant_id, quota.shown(), by=by, user=user, now=now)


def drop_quota(connection: Connection, quota_id: str, *, by: str, user: str, now: datetime) -> bool:
    """Take a limit away from the next call on; returns whether there was one."""
    held = next((quota for quota in all_quotas(connection) if quota.id == quota_id), None)
    if held is None:
        return False
    unset_quota(connection, quota_id)
    _note_quota(connection, "quota.unset", quota_id, held.tenant_id, held.shown(), by=by, user=user, now=now)
    return True


def _note_quota(
    connection: Connection, did: str, quota_id: str, tenant_id: str | None, said: str, *, by: str, user: str,
    now: datetime,
) -> None:  # fmt: skip
    record(connection, did, f"quota:{quota_id}", by=by, now=now, tenant_id=tenant_id, detail=said)
    activity.record(connection, [Event(Action.QUOTA_CHANGED, tenant_id or "", user, timestamp(now), quota_id)])


def stop(connection: Connection, pause: Pause, providers: Collection[str], *, by: str, now: datetime) -> None:
    """Stop something from now on, in every process. Raises `BadInput` for what there is none of."""
    _check_there(connection, pause.scope, pause.name, providers)
    set_pause(connection, pause, timestamp(now))
    _note_stop(connection, "pause", pause.scope, pause.name, by=by, now=now, detail=pause.reason)


def go_on(connection: Connection, scope: str, name: str, *, by: str, now: datetime) -> tuple[bool, bool]:
    """Let something go on; for a provider, close its breakers too. Returns whether it was paused, and one was open."""
    lifted = lift_pause(connection, scope, name)
    closed = scope == "provider" and close_breaker(connection, name, timestamp(now))
    if lifted or closed:
        _note_stop(
            connection, "resume", scope, name, by=by, now=now, detail="its breaker is closed" if closed else None
        )
    return lifted, closed


def _note_stop(
    connection: Connection, did: str, scope: str, name: str, *, by: str, now: datetime, detail: str | None
) -> None:
    tenant_id = name if scope == "tenant" else None
    record(connection, did, f"{scope}:{name}", by=by, now=now, tenant_id=tenant_id, detail=detail)


def _check_there(connection: Connection, scope: str, name: str, providers: Collection[str]) -> None:
    match scope:
        case "all" if name:
            raise BadInput("`all` has no name: it is everything")
        case "provider" if name not in providers:
            raise BadInput(f"{name!r} is no provider; there are {', '.join(sorted(providers))}")
        case "tenant":
            tenant_of(connection, name)
        case "batch" if not connection.execute(select(exists().where(batches.c.id == name))).scalar():
            raise BadInput(f"there is no batch {name!r}")


def resolve_attempt(connection: Connection, attempt_id: str, found: Resolution, *, by: str, now: datetime) -> Resolved:
    """Write down what became of a call of unknown charge. Raises `BadInput` where that is known."""
    resolved = resolve(connection, attempt_id, found, at=timestamp(now))
    record(connection, "attempt.resolve", f"attempt:{resolved.id}", by=by, now=now, detail=resolved.became)
    return resolved
