"""Where operators are told what needs a look: an address that takes signed JSON, or a chat room.

Whoever knows the address of a chat room can write into it, so addresses are sealed like secrets and shown shortened.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update
from yarl import URL

from sluiceway.errors import BadInput
from sluiceway.hooks.deliveries import drop_all_for
from sluiceway.hooks.signature import new_signing_secret
from sluiceway.identifier import new_id
from sluiceway.outcome import timestamp
from sluiceway.store.schema import alerts
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.audit import record
from sluiceway.tenancy.seal import seal, unseal

_CHAT_ROOMS: Final = (
    "hooks.slack.com",
    "discord.com",
    "discordapp.com",
    "webhook.office.com",
    "logic.azure.com",
    "api.powerplatform.com",
)
_SHOWN: Final = 4


class Form(StrEnum):
    """How something is said: as JSON that a program reads, or as a text that chat rooms show."""

    JSON = "json"
    TEXT = "text"


class AlertReceiver(msgspec.Struct, frozen=True):
    """Where operators are told, as it may be shown."""

    id: str
    name: str
    form: Form
    shown_url: str
    created_at: str
    created_by: str


class NewAlertReceiver(msgspec.Struct, frozen=True):
    """A receiver that was just made, and the only sight of the secret that signs what it is sent."""

    receiver: AlertReceiver
    secret: str


_A = alerts.c
_ALL = select(*(_A[name] for name in AlertReceiver.__struct_fields__))


def form_for(url: URL) -> Form:
    """Guess from the host what a receiver takes."""
    host = (url.host or "").lower()
    is_room = any(host == room or host.endswith(f".{room}") for room in _CHAT_ROOMS)
    return Form.TEXT if is_room else Form.JSON


def shown_url(url: URL) -> str:
    """Shorten an address, so that its receiver can be told from others and nobody can write to it."""
    rest = url.raw_path_qs
    return f"{url.origin()}{rest}" if len(rest) <= _SHOWN else f"{url.origin()}/…{rest[-_SHOWN:]}"


def add_alert_receiver(
    connection: Connection, url: URL, name: str, form: Form | None, key: SecretKey, *, by: str, now: datetime
) -> NewAlertReceiver:
    """Have a receiver told of alarms from now on; whoever calls has checked that the address may be called.

    Raises `BadInput` where another one has the name.
    """
    name = name.strip() or (url.host or "")
    if connection.execute(select(_A.id).where(_A.name == name, _A.removed_at.is_(None))).first():
        raise BadInput(f"there is a receiver named {name!r} already; give this one another (--name)")
    made = AlertReceiver(new_id(), name, form or form_for(url), shown_url(url), timestamp(now), by)
    secret = new_signing_secret()
    sealed = {"sealed_url": seal(key, str(url), _url_of(made)), "sealed_secret": seal(key, secret, _secret_of(made))}
    connection.execute(insert(alerts).values(**msgspec.structs.asdict(made), **sealed))
    record(connection, "alert.add", f"alert:{made.id}", by=by, now=now, detail=name)
    return NewAlertReceiver(made, secret)


def alert_receivers(connection: Connection) -> list[AlertReceiver]:
    """Return every receiver there is, oldest first."""
    rows = connection.execute(_ALL.where(_A.removed_at.is_(None)).order_by(_A.id))
    return [_receiver(row) for row in rows]


def alert_receiver(connection: Connection, named: str) -> AlertReceiver:
    """Return a receiver by its id or name; raises `BadInput` where there is none."""
    named_so = ((_A.id == named) | (_A.name == named), _A.removed_at.is_(None))
    row = connection.execute(_ALL.where(*named_so).order_by(_A.id)).first()
    if row is None:
        raise BadInput(f"no receiver of alerts is named {named!r}; `sluiceway alert list` shows those there are")
    return _receiver(row)


def remove_alert_receiver(
    connection: Connection, receiver_id: str, *, by: str, now: datetime, why: str | None = None
) -> bool:
    """Tell a receiver nothing any more, and forget its address; returns whether there was one."""
    there = (_A.id == receiver_id, _A.removed_at.is_(None))
    gone = {"removed_at": timestamp(now), "sealed_url": "", "sealed_secret": ""}
    if connection.execute(update(alerts).where(*there).values(gone)).rowcount == 0:
        return False
    drop_all_for(connection, receiver_id, "the receiver was removed")
    record(connection, "alert.remove", f"alert:{receiver_id}", by=by, now=now, detail=why)
    return True


def opened(row: Any, key: SecretKey) -> tuple[str, str]:
    """Return the address and the secret of a receiver's row; raises `BadSetting` where they do not open."""
    return unseal(key, row.sealed_url, _url_of(row)), unseal(key, row.sealed_secret, _secret_of(row))


def _receiver(row: Any) -> AlertReceiver:
    return AlertReceiver(row.id, row.name, Form(row.form), row.shown_url, row.created_at, row.created_by)


def _url_of(of: Any) -> str:
    return f"the address of alert {of.id}"


def _secret_of(of: Any) -> str:
    return f"the secret of alert {of.id}"
