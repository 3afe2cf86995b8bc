"""Keeping from work whoever is on the suppression list, also those whom only an answer shows to be on it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

import msgspec

from sluiceway.outcome import as_json
from sluiceway.prospect import Match, Prospect
from sluiceway.rights.suppression import Suppressions
from sluiceway.sign import Sign, found_as, own_signs_of, signs_of
from sluiceway.sources._contract import Reading
from sluiceway.store.engine import Store
from sluiceway.store.writer import Writer
from sluiceway.usage.ledger import Finish, Op, Task

_WHY = "an answer showed that this is somebody on the list"


class Watch:
    """The suppression list beside the work of one process."""

    def __init__(self, store: Store, writer: Writer[Op], suppressions: Suppressions) -> None:
        self.suppressions = suppressions
        self._store = store
        self._writer = writer
        self._recognised: set[str] = set()

    async def recognises(self, prospect: Prospect, said: Reading) -> bool:
        """Tell whether an answer holds what must not be kept: values that are somebody's on the list."""
        if not said.found or self.suppressions.is_empty:
            return False
        if prospect.id in self._recognised and said.match is not Match.WEAK:
            return True
        people = [person for found in said.found if (person := found_as(found.field, found.value))]
        signs = {sign for person in people for sign in signs_of(person)}
        return self.suppressions.may_hold(signs) and await asyncio.to_thread(self._is_on_list, prospect, signs)

    def _is_on_list(self, prospect: Prospect, signs: Collection[Sign]) -> bool:
        with self._store.read() as connection:
            return bool(self.suppressions.surely_among(connection, {prospect.id: (prospect.tenant_id, signs)}))

    async def suppress(self, prospect: Prospect) -> None:
        """Put a prospect on the list as they were asked about, so that no other source and no later file asks."""
        self._recognised.add(prospect.id)
        signs, at = own_signs_of(prospect.person), self._store.clock.stamp()
        adding = partial(
            self.suppressions.add, tenant_id=prospect.tenant_id, signs=signs, at=at, by="sluiceway", reason=_WHY
        )
        await self._writer.put_first(Task(adding))  # before this prospect's next call may begin


def without_what_was_found(finish: Finish, said: Reading) -> Finish:
    """Return the end of a call of which only its outcome is kept; nothing at all where it was about the person."""
    if finish.answer is None or said.match is not Match.WEAK:
        return msgspec.structs.replace(finish, answer=None)
    kept = as_json(msgspec.structs.replace(said, found=(), data=None))
    return msgspec.structs.replace(finish, answer=msgspec.structs.replace(finish.answer, reading=kept))
