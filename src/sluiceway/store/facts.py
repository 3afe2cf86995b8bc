"""What is true of the whole store."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Text, bindparam, cast, delete, insert, select, update

from sluiceway.errors import BadSetting
from sluiceway.identifier import new_id
from sluiceway.store.bulk import Insert
from sluiceway.store.schema import facts

_ANSWERS = "answers"
_ID = "id"
LEDGER_HORIZON = "ledger_horizon"
_VALUE = select(facts.c.value).where(facts.c.name == bindparam("named"))
_NAME_ONCE = Insert(facts, ("name", "value"))
_KINDS = {False: "the real providers", True: "a sandbox"}


def keep_apart(connection: Connection, *, sandbox: bool) -> None:
    """Note whose answers a store holds, and refuse to mix an invented world with the real one.

    What a sandbox says of a real person would be held, and not asked again, for as long as it is fresh. Raises
    `BadSetting` when the store holds the other kind.
    """
    held = connection.execute(select(facts.c.value).where(facts.c.name == _ANSWERS)).scalar()
    if held is None:
        connection.execute(insert(facts).values(name=_ANSWERS, value=_KINDS[sandbox]))
    elif held != _KINDS[sandbox]:
        raise BadSetting(
            f"this store holds answers of {held}, and this run would ask {_KINDS[sandbox]}; "
            "choose another with --database, for example sqlite:///trial.db"
        )


def version(connection: Connection, name: str) -> int:
    """Return how often something in the store was changed, such as its quotas."""
    return int(connection.execute(_VALUE, {"named": f"version:{name}"}).scalar() or 0)


def raise_version(connection: Connection, name: str) -> None:
    """Count a change, so that every process that looks can tell."""
    key = f"version:{name}"
    raised = cast(cast(facts.c.value, BigInteger) + 1, Text)
    if connection.execute(update(facts).where(facts.c.name == key).values(value=raised)).rowcount == 0:
        connection.execute(insert(facts).values(name=key, value="1"))


def set_version(connection: Connection, name: str, number: int) -> None:
    """Count a change by a higher number than the last one."""
    raise_version(connection, name)
    connection.execute(update(facts).where(facts.c.name == f"version:{name}").values(value=str(number)))


def fact(connection: Connection, name: str) -> str | None:
    """Return something that is known of the store, if it is."""
    value: str | None = connection.execute(_VALUE, {"named": name}).scalar()
    return value


def set_fact(connection: Connection, name: str, value: str | None) -> None:
    """Note something of the store, or (`None`) that it is true no more."""
    connection.execute(delete(facts).where(facts.c.name == name))
    if value is not None:
        connection.execute(insert(facts).values(name=name, value=value))


def ledger_horizon(connection: Connection) -> str | None:
    """Return the last UTC day whose attempts were dropped by age; `None` while none were."""
    return fact(connection, LEDGER_HORIZON)


class Identity(NamedTuple):
    """Which store this is, and whether it holds a sandbox's answers."""

    id: str
    sandbox: bool


def identify(connection: Connection) -> Identity:
    """Return the store's identity, giving it one when it has none yet; needs a connection that may write."""
    _NAME_ONCE.run(connection, [(_ID, new_id())])
    held = {name: value for name, value in connection.execute(select(facts.c.name, facts.c.value))}  # noqa: C416
    return Identity(held[_ID], held.get(_ANSWERS) == _KINDS[True])
