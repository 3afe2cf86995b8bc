"""Batches: the same asking continues, rows become prospects, and what was never begun can be taken back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builders import INES, a_prospect, an_opening, row, rows, somebody, write
from sluiceway.pipeline.batch import (
    Asked,
    Batch,
    InputRow,
    all_taken_in,
    begin_batch,
    count_prospects,
    finish_batch,
    open_batch,
    prospect_pages,
    take_in,
    withdraw,
)
from sluiceway.prospect import Person
from sluiceway.store.engine import Store
from sluiceway.store.schema import batch_rows, batches, prospects
from sluiceway.usage.ledger import Task

ASKED = Asked("default", "people.csv", "digest", {"first": None, "sources": ["apollo"]}, "file", refresh=False)
NOW, LATER = "2026-03-04T05:06:07.000Z", "2026-03-04T06:06:07.000Z"


def do(store: Store, write_it: Any, *arguments: Any, **named: Any) -> Any:
    return write(store, Task(lambda connection: write_it(connection, *arguments, **named)))[0]


def opened(store: Store, asked: Asked = ASKED, now: str = NOW) -> Batch:
    batch: Batch = do(store, open_batch, asked, now)
    return batch


def taken(store: Store, *people: Person, tenant: str = "default") -> Batch:
    """A batch with these people in it."""
    batch = opened(store)
    do(store, take_in, batch.id, [InputRow(number, tenant, person) for number, person in enumerate(people)], NOW)
    return batch


def person_of(store: Store) -> Person:
    return msgspec.json.decode(row(store, prospects)["person"], type=Person)


def test_the_same_asking_continues_the_same_batch(store: Store) -> None:
    first = opened(store)
    do(store, begin_batch, first.id, first.began_at)
    do(store, all_taken_in, first.id, rows=3, rejected=1)
    again = opened(store, now=LATER)
    assert (again.id, again.continued, again.rows, again.began_at) == (first.id, True, 3, NOW)


@pytest.mark.parametrize(
    "changed", [{"digest": "another"}, {"tenant_id": "acme"}, {"options": {"first": 5}}, {"options": {}}]
)
def test_another_file_tenant_or_option_is_another_batch(store: Store, changed: dict[str, Any]) -> None:
    first = opened(store)
    assert opened(store, msgspec.structs.replace(ASKED, **changed)).id != first.id


def test_the_order_of_options_makes_no_difference(store: Store) -> None:
    turned = msgspec.structs.replace(ASKED, options=dict(reversed(ASKED.options.items())))
    assert opened(store).id == opened(store, turned).id


def test_a_list_can_be_enriched_again_after_it_was_finished(store: Store) -> None:
    batch = opened(store)
    do(store, finish_batch, batch.id, NOW)
    assert opened(store).id == batch.id
    assert row(store, batches)["finished_at"] is None


def test_a_finished_refresh_is_over_and_an_unfinished_one_goes_on(store: Store) -> None:
    refresh = msgspec.structs.replace(ASKED, options={"refresh": True}, refresh=True)
    first = opened(store, refresh)
    do(store, begin_batch, first.id, first.began_at)
    assert opened(store, refresh, LATER).id == first.id
    do(store, finish_batch, first.id, NOW)
    second = opened(store, refresh, LATER)
    assert (second.id == first.id, second.continued, second.began_at) == (False, False, LATER)
    assert sorted(each["generation"] for each in rows(store, batches)) == [1, 2]


def test_when_a_batch_began_is_noted_once(store: Store) -> None:
    batch = opened(store)
    do(store, begin_batch, batch.id, NOW)
    do(store, begin_batch, batch.id, LATER)
    assert row(store, batches)["began_at"] == NOW


def test_the_same_person_in_several_rows_is_one_prospect(store: Store) -> None:
    batch = taken(store, INES, somebody(1), msgspec.structs.replace(INES, email=" INES@harbourline.example"))
    assert len(rows(store, prospects)) == 2
    assert len(rows(store, batch_rows)) == 3
    with store.read() as connection:
        assert count_prospects(connection, batch.id) == 2


def test_a_row_adds_facts_and_never_replaces_one(store: Store) -> None:
    taken(store, Person(email="i@q.example", title="CFO"), Person(email="i@q.example", title="CEO", company="Quell"))
    assert person_of(store) == Person(email="i@q.example", title="CFO", company="Quell")


def test_each_tenant_has_prospects_of_its_own(store: Store) -> None:
    batch = taken(store, INES)
    do(store, take_in, batch.id, [InputRow(1, "acme", INES)], NOW)
    assert sorted(each["tenant_id"] for each in rows(store, prospects)) == ["acme", "default"]


def test_taking_in_the_same_rows_again_changes_nothing(store: Store) -> None:
    taken(store, INES, somebody(1))
    before = rows(store, prospects), rows(store, batch_rows)
    taken(store, INES, somebody(1))
    assert (rows(store, prospects), rows(store, batch_rows)) == before


def test_an_external_id_stays_with_whom_it_was_given_to_first(store: Store) -> None:
    batch = opened(store)
    given = [
        InputRow(0, "default", INES, "crm-1"),
        InputRow(1, "default", somebody(1), "crm-1"),
        InputRow(2, "default", INES, "crm-2"),
        InputRow(3, "acme", INES, "crm-1"),
    ]
    do(store, take_in, batch.id, given, NOW)
    assert sorted((each["tenant_id"], each["external_id"] or "") for each in rows(store, prospects)) == [
        ("acme", "crm-1"),
        ("default", ""),
        ("default", "crm-1"),
    ]


def test_pages_hold_each_prospect_once_in_the_order_of_its_first_row(store: Store) -> None:
    people = [somebody(number) for number in (4, 1, 4, 3, 1, 2, 0)]
    batch = taken(store, *people)
    pages = list(prospect_pages(store.read, batch.id, size=2))
    by_id = {each["id"]: msgspec.json.decode(each["person"], type=Person) for each in rows(store, prospects)}
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [by_id[key] for page in pages for key in page] == [somebody(number) for number in (4, 1, 3, 2, 0)]


def test_a_batch_that_never_began_is_taken_back_with_the_prospects_only_it_knows(store: Store) -> None:
    known = a_prospect(store, somebody(7))
    write(store, an_opening(known))
    batch = taken(store, INES, somebody(7))
    do(store, withdraw, batch.id)
    assert rows(store, batches) == rows(store, batch_rows) == []
    assert [each["id"] for each in rows(store, prospects)] == [known]


def test_a_batch_that_began_is_not_taken_back(store: Store) -> None:
    batch = taken(store, INES)
    do(store, begin_batch, batch.id, NOW)
    do(store, withdraw, batch.id)
    assert len(rows(store, batches)) == len(rows(store, prospects)) == 1
