"""Documents about nobody in particular: fetched once for everybody, asked about again when they are old."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from desk import Desk, Open

from builders import INES, row, rows
from sluiceway.outcome import Status, billed
from sluiceway.pipeline.library import Library, Reader
from sluiceway.pipeline.turns import Behalf, Terms
from sluiceway.prospect import Want
from sluiceway.sources._contract import Price, Reading, Request, Response, Source, Subject, trouble, unreadable
from sluiceway.store.schema import daily_totals, documents
from sluiceway.usage.pace import Pace

MAP = Request("map", "GET", "/edgar/map.json", shared=True, fresh_for=3600.0)
OLD_MAP = msgspec.structs.replace(MAP, fresh_for=0.0)


class Papers(Source):
    """Asks for papers that are anybody's."""

    name = "papers"
    provider = "edgar"
    title = "Papers"
    hosts: ClassVar[Mapping[str, str]] = {"": "https://papers.example"}

    def headers(self) -> Mapping[str, str]:
        return {}

    def price(self, want: tuple[Want, ...]) -> Price:
        return Price()

    def read(self, subject: Subject, request: Request, response: Response) -> Reading:
        if response.status == 304:
            return Reading(Status.COMPLETE, billed())
        if response.status == 404:
            return Reading(Status.NO_DATA, billed())
        if response.status != 200:
            return trouble(response, "") or unreadable("odd")
        return Reading(Status.COMPLETE, billed(), data=response.json())


class Shelf:
    """A library at a desk."""

    def __init__(self, at: Desk) -> None:
        self.at = at
        self.papers = Papers()
        at.app.terms["papers"] = Terms({"": at.sandbox.url}, 5.0, Pace(1000))
        self.library = self.another()

    def another(self) -> Library:
        """The library of the next process."""
        at = self.at
        return Library(store=at.store, writer=at.app.writer)

    async def get(self, request: Request = MAP, library: Library | None = None) -> Reading:
        subject = Subject(INES, (), self.at.store.clock.now().date())
        reader = Reader(self.at.caller(), Behalf("file", batch_id="b"))
        return await (library or self.library).get(self.papers, subject, request, reader)

    def answers(self, *statuses: int, body: Any = None, **more: Any) -> None:
        for status in statuses:
            said = "" if body is None else body
            self.at.answers(status, provider="edgar", body=said, billed=status in (200, 304, 404), **more)


async def test_many_who_need_a_document_wait_for_one_fetch(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(200, body={"a": 1}, delay_s=0.1)
        readings = await asyncio.gather(*(shelf.get() for _ in range(20)))
        assert {str(reading.data) for reading in readings} == {"{'a': 1}"}
        assert at.requests("edgar") == 1
        assert row(at.store, documents)["request_key"] == MAP.key("edgar")
        assert row(at.store, daily_totals)["billed"] == 1


async def test_a_document_is_nobodys_and_says_which_batch_needed_it_first(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(200, body={"a": 1})
        await shelf.get()
        (attempt,) = at.attempts()
        assert (attempt["tenant_id"], attempt["prospect_id"], attempt["batch_id"]) == (None, None, "b")


async def test_the_next_process_finds_it_in_the_store(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(200, body={"a": 1})
        await shelf.get()
        assert (await shelf.get(library=shelf.another())).data == {"a": 1}
        assert at.requests("edgar") == 1


async def test_an_old_document_that_is_still_current_is_kept(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(200, body={"a": 1}, headers={"etag": '"e1"'})
        await shelf.get(OLD_MAP)
        first = row(at.store, documents)
        shelf.answers(304)
        assert (await shelf.get(OLD_MAP)).data == {"a": 1}
        second = row(at.store, documents)
        assert (second["reading"], second["etag"]) == (first["reading"], '"e1"')
        assert second["fetched_at"] > first["fetched_at"]
        assert at.requests("edgar") == 2


async def test_an_old_document_is_replaced_by_a_newer_one(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(200, body={"a": 1})
        shelf.answers(200, body={"a": 2})
        assert [(await shelf.get(OLD_MAP)).data for _ in range(2)] == [{"a": 1}, {"a": 2}]
        assert '"a":2' in row(at.store, documents)["reading"]


async def test_an_old_copy_is_better_than_a_failure_to_get_a_new_one(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(200, body={"a": 1})
        await shelf.get(OLD_MAP)
        shelf.answers(500, 500, 500)
        assert (await shelf.get(OLD_MAP)).data == {"a": 1}
        assert at.charges() == ["billed", "free", "free", "free"]


async def test_a_document_that_could_not_be_had_is_asked_for_again(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(500, 500, 500)
        assert (await shelf.get()).status is Status.FAILED
        assert rows(at.store, documents) == []
        shelf.answers(200, body={"a": 1})
        assert (await shelf.get()).data == {"a": 1}


async def test_a_missing_document_is_remembered_as_missing(desk: Open) -> None:
    async with desk() as at:
        shelf = Shelf(at)
        shelf.answers(404)
        assert [(await shelf.get()).status for _ in range(2)] == [Status.NO_DATA, Status.NO_DATA]
        assert at.requests("edgar") == 1
