"""The installation's secret key: what is sealed in the store is sealed with it, so it is never in the store.

It is `SLUICEWAY_SECRET_KEY`, or else a file beside an SQLite store, made when it is first needed and readable by its
owner alone. A store on a server has no such place that all its processes share, so there the setting is needed.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from sluiceway.errors import BadSetting
from sluiceway.store.engine import sqlite_path

SHORTEST: Final = 32
_MAKE_ONE: Final = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


class SecretKey:
    """Random bytes from which a key for each purpose is derived; none of them tells anything about the others."""

    def __init__(self, material: str) -> None:
        self._material = blake2b(material.encode()).digest()

    def derived(self, purpose: str) -> bytes:
        """Return the 32 bytes that are for one purpose."""
        return blake2b(purpose.encode(), key=self._material, digest_size=32).digest()


def secret_key(given: str, database_url: str, *, make: bool = False) -> SecretKey:
    """Return the key that is set, or else the one in the file beside the store.

    With `make`, the file is made where there is none. Raises `BadSetting` when there is no key, or it is too short or
    not kept to its owner.
    """
    if given:
        if len(given) < SHORTEST:
            raise BadSetting(f"SLUICEWAY_SECRET_KEY needs at least {SHORTEST} random characters; {_MAKE_ONE}")
        return SecretKey(given)
    store = sqlite_path(database_url)
    if store is None:
        raise BadSetting(f"a store on a server needs SLUICEWAY_SECRET_KEY, the same for every process; {_MAKE_ONE}")
    path = key_file(store)
    if make and not path.exists():
        _write_once(path)
    return SecretKey(_read(path))


def key_file(store: Path) -> Path:
    """Return where the key of an SQLite store is."""
    return store.with_name(f"{store.name}.secret-key")


def _read(path: Path) -> str:
    try:
        if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadSetting(f"others can read the secret key: chmod 600 {path}")
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise BadSetting(
            f"the secret key {path} is gone, and what was sealed with it cannot be read: put it back from your backup, "
            "or set the credentials again"
        ) from None
    except (OSError, ValueError) as error:
        raise BadSetting(f"the secret key {path} cannot be read ({error})") from None
    if len(text) < SHORTEST:
        raise BadSetting(f"the secret key {path} is damaged: put it back from your backup")
    return text


def _write_once(path: Path) -> None:
    """Make the file, whole and its owner's alone from the start; of several processes at once the first one wins."""
    try:
        descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # which nobody else can read
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(made, path)
        Path(made).unlink()
    except OSError as error:
        raise BadSetting(f"the secret key {path} cannot be made ({error.strerror})") from None
