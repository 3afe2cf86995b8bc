"""Enriching a file: take its rows in, say what that would cost, ask, and write the enriched file.

Each step can be interrupted and done again; nothing is asked or written twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select

from sluiceway.activity import Action, Event, Export, record_exported
from sluiceway.app import App
from sluiceway.crash import crash_point
from sluiceway.enriched_file import Enriched, RejectsFile, Written, write_enriched
from sluiceway.errors import BadInput
from sluiceway.outcome import read_statuses, timestamp
from sluiceway.people_file import PeopleFile
from sluiceway.people_row import Reject, Row
from sluiceway.pipeline import batch as batches
from sluiceway.pipeline.batch import CHUNK, Asked, Batch, InputRow
from sluiceway.pipeline.embedded import Embedded, Tally
from sluiceway.pipeline.estimate import SourceEstimate
from sluiceway.pipeline.run import Ended
from sluiceway.process import user_name
from sluiceway.prospect import best
from sluiceway.rights.suppression import signs_of_row
from sluiceway.sign import signs_of
from sluiceway.store.schema import batch_rows, prospects
from sluiceway.usage.ledger import Task

TRIGGER = "file"


class Options(msgspec.Struct, frozen=True):
    """What a person may choose about a file besides where it goes."""

    tenant: str = "default"
    first: int | None = None
    refresh: bool = False
    user: str = msgspec.field(default_factory=user_name)


class Taken(msgspec.Struct, frozen=True):
    """What a file turned out to hold. `prospects` counts distinct people among its usable rows.

    Rows about people who are on the suppression list are not taken in.
    """

    rows: int
    rejected: int
    prospects: int
    suppressed: int = 0


class FileEnrichment:
    """One file on its way through an open app. Call `take_in` first, then `estimate`, `run` and `write`."""

    def __init__(self, app: App, people: PeopleFile, out: Path, options: Options) -> None:
        self._app = app
        self._people = people
        self._out = out
        self._options = options
        self.batch: Batch | None = None
        self.rejects = RejectsFile(people, out)
        self._withheld_people: set[str] = set()

    async def take_in(self, on_rows: Callable[[int], None]) -> Taken:
        """Bring the file's rows into the store, and its rejects into their own file; the second time, only look."""
        batch = self.batch = await self._do(batches.open_batch, self._asked(), self._now())
        rows = suppressed = 0
        with self.rejects:
            for chunk in self._chunks():
                usable = [row for row in chunk if isinstance(row, Row)]
                for row in chunk:
                    if isinstance(row, Reject):
                        self.rejects.add(row)
                withheld = self._withheld(usable)
                await self._take_in(batch, [row for row in usable if row.number not in withheld])
                rows += len(chunk)
                suppressed += len(withheld)
                on_rows(rows)
                await asyncio.sleep(0)
                if self._app.gate.draining.is_set():
                    break
        if batch.rows is None and not self._app.gate.draining.is_set():
            await self._do(batches.all_taken_in, batch.id, rows=rows, rejected=self.rejects.count)
        with self._app.store.read() as connection:
            return Taken(rows, self.rejects.count, batches.count_prospects(connection, batch.id), suppressed)

    async def _take_in(self, batch: Batch, rows: Sequence[Row]) -> None:
        """Take in those rows that are not in the store: all of them the first time, then what was left out before."""
        if batch.rows is not None:
            with self._app.store.read() as connection:
                held = batches.rows_taken_in(connection, batch.id, [row.number for row in rows])
            rows = [row for row in rows if row.number not in held]
        if rows:
            await self._do(batches.take_in, batch.id, [self._input_row(row) for row in rows], self._now())
            crash_point("ingest.chunk")

    def _withheld(self, rows: Sequence[Row]) -> set[int]:
        """Return the numbers of rows about people who are on the suppression list."""
        suppressions = self._app.watch.suppressions
        with self._app.store.read() as connection:
            suppressions.look(connection)
            if suppressions.is_empty:
                return set()
            shown = {row.number: (self._tenant_of(row), signs_of(row.person)) for row in rows}
            return suppressions.among(connection, shown)

    async def estimate(self, on_prospects: Callable[[int], None]) -> dict[str, SourceEstimate]:
        """Say, source by source, what `run` would ask and what that can cost at most. Nothing is sent."""
        estimates = {name: SourceEstimate(source.provider) for name, source in self._app.sources.items()}
        dispatcher = self._dispatcher(lambda *_: None, lambda _: None)
        seen = 0
        for page in dispatcher.pages():
            for history in page:
                for name, intention in dispatcher.enricher.intentions(history).items():
                    estimates[name].add(intention)
            seen += len(page)
            on_prospects(seen)
            await asyncio.sleep(0)
        return estimates

    async def withdraw(self) -> None:
        """Take back what `take_in` brought, because the answer was no; a batch that has begun stays."""
        if self.batch is not None:
            await self._do(batches.withdraw, self.batch.id)

    async def run(self, on_source: Callable[[str, str], None], on_prospect: Callable[[Ended], None]) -> Tally:
        """Ask everything that is not held; returns early, without failing, when the work is stopped."""
        batch = self._opened()
        await self._do(batches.begin_batch, batch.id, batch.began_at)
        await self._record_upload(batch)
        crash_point("plan.agreed")
        async with self._app.meter_reader():
            tally = await self._dispatcher(on_source, on_prospect).run()
        await self._app.writer.flush()
        return tally

    async def write(self, tally: Tally) -> Written:
        """Write the enriched file: every input row, in order, with what is held about its person by now.

        Only then is a batch with nothing left to ask finished: a refresh that was killed while it wrote is the same
        refresh when it is asked for again, and buys nothing twice.
        """
        sources = list(self._app.sources)
        written = write_enriched(self._people, self._out, self._results, sources=sources, withheld=self._not_shown)
        await self._record_export(self._opened())
        if not tally.left and not tally.waiting and not tally.ended[Ended.ELSEWHERE] and not self._app.gate.stops:
            await self._do(batches.finish_batch, self._opened().id, self._now())
        return written

    async def _record_upload(self, batch: Batch) -> None:
        """Record, once for a batch, that its user brought prospects, for every tenant that is in the file."""
        for event in self._events(Action.CSV_UPLOADED, batch):
            await self._app.writer.put(msgspec.structs.replace(event, id=f"{batch.id}:{event.tenant_id}"))

    async def _record_export(self, batch: Batch) -> None:
        """Record that a file was written, for every tenant that is in it, and whom it is about."""
        exports = {event.tenant_id: event for event in self._events(Action.CSV_EXPORTED, batch)}
        for event in exports.values():
            await self._app.writer.put(event)
        for ids in batches.prospect_pages(self._app.store.read, batch.id):
            with self._app.store.read() as connection:
                tenants = batches.tenants_of(connection, sorted(set(ids) - self._withheld_people))
            of = ((exports[tenant], prospect_id) for prospect_id, tenant in sorted(tenants.items()))
            taken = [Export(event.id, prospect_id, event.tenant_id, event.at) for event, prospect_id in of]
            await self._do(record_exported, taken)

    def _events(self, action: Action, batch: Batch) -> list[Event]:
        with self._app.store.read() as connection:
            tenants = batches.tenants_in(connection, batch.id)
        return [Event(action, tenant, self._options.user, self._now(), batch.id) for tenant in tenants]

    def _dispatcher(self, on_source: Callable[[str, str], None], on_prospect: Callable[[Ended], None]) -> Embedded:
        batch = self._opened()
        order = self._app.order(batch.id, TRIGGER, self._app.settings.want, self._options.user)
        return self._app.embedded(batch, order, on_source=on_source, on_prospect=on_prospect)

    def _opened(self) -> Batch:
        if self.batch is None:
            raise BadInput("the file has to be taken in first")
        return self.batch

    def _asked(self) -> Asked:
        settings, options = self._app.settings, self._options
        identity = {
            "sources": sorted(self._app.sources),
            "want": sorted(settings.want),
            "columns": dict(self._people.columns),
            "first": options.first,
            "refresh": options.refresh,
        }
        return Asked(options.tenant, self._people.path.name, self._people.digest, identity, TRIGGER, options.refresh)

    def _chunks(self) -> Iterator[list[Row | Reject]]:
        rows = islice(self._people.read(), self._options.first)
        while chunk := list(islice(rows, CHUNK)):
            yield chunk

    def _input_row(self, row: Row) -> InputRow:
        return InputRow(row.number, self._tenant_of(row), row.person, row.external_id)

    def _tenant_of(self, row: Row) -> str:
        return row.tenant or self._options.tenant

    def _not_shown(self, rows: Sequence[Row]) -> set[int]:
        """Return the numbers of rows whose people are on the list, by what the file or a source says of them."""
        withheld = self._withheld(rows)
        suppressions = self._app.watch.suppressions
        if suppressions.is_empty:
            return withheld
        r, p = batch_rows.c, prospects.c
        query = select(r.number, p.id, p.tenant_id, p.person, p.fields).join(prospects, p.id == r.prospect_id)
        query = query.where(r.batch_id == self._opened().id, r.number.in_([row.number for row in rows]))
        with self._app.store.read() as connection:
            found = {row.number: row for row in connection.execute(query)}
            shown = {number: (row.tenant_id, signs_of_row(row)) for number, row in found.items()}
            withheld |= suppressions.among(connection, shown)
        self._withheld_people |= {row.id for number, row in found.items() if number in withheld}
        return withheld

    def _results(self, numbers: Sequence[int]) -> dict[int, Enriched]:
        """Look up what is held about the people in some rows."""
        r, p = batch_rows.c, prospects.c
        query = select(r.number, p.fields, p.enrichment_source_status, p.enrichment_status)
        query = query.join(prospects, p.id == r.prospect_id)
        query = query.where(r.batch_id == self._opened().id, r.number.in_(numbers))
        crash_point("output.writing")
        with self._app.store.read() as connection:
            rows = connection.execute(query).all()
        return {
            row.number: Enriched(
                fields=best(msgspec.json.decode(row.fields)),
                statuses=read_statuses(msgspec.json.decode(row.enrichment_source_status)),
                status=row.enrichment_status,
            )
            for row in rows
        }

    async def _do(self, write: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return await self._app.writer.put(Task(lambda connection: write(connection, *arguments, **named)))

    def _now(self) -> str:
        return timestamp(self._app.store.clock.now())
