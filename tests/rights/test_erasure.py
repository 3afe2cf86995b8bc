"""Erasing: every way to the person is cut, every sum stays, and what was in flight cannot bring them back."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
from sqlalchemy import insert, update

from builders import (
    A_CREDIT,
    AT,
    INES,
    LATER,
    a_close,
    a_finish,
    a_prospect,
    an_attempt,
    an_opening,
    everything,
    row,
    rows,
    somebody,
    the_end,
    write,
)
from sluiceway.activity import Action, Done, Event, Export, record_exported
from sluiceway.outcome import UNKNOWN_CHARGE, ChargeKind, Status, as_json
from sluiceway.pipeline.timeline import latest_runs, timeline
from sluiceway.prospect import Field, Found, Person
from sluiceway.rights.erasure import (
    BY_REQUEST,
    Why,
    documents_naming,
    drop_documents,
    erase,
    remove_traces,
    traces_since,
)
from sluiceway.rights.lookup import find
from sluiceway.rights.report import report
from sluiceway.rights.suppression import Suppressions, Unwanted, opened_list, people_version
from sluiceway.rollups import folded
from sluiceway.sources._contract import Reading
from sluiceway.store.engine import Store
from sluiceway.store.schema import (
    answers,
    attempts,
    batch_rows,
    batches,
    corrections,
    daily_totals,
    documents,
    erasures,
    prospects,
    runs,
    source_results,
    suppressions,
    usage_hours,
)
from sluiceway.usage.ledger import Answer, Begin, OpenRun, Task, apply
from sluiceway.usage.resolve import Resolution, resolve
from sluiceway.usage.spend import By, outcomes_by_source, spend_by

FOUND = {"work_email:apollo": ["ines.o@quell.example", LATER, "a", 90], "phone:apollo": ["+31 20 794", LATER, "a", 50]}
ANSWER = as_json(Reading(Status.COMPLETE, A_CREDIT, found=(Found(Field.WORK_EMAIL, "ines.o@quell.example"),)))

FOUND_OUT = Resolution(ChargeKind.FREE, "their page does not show Ines", "Tomas")


def enriched(store: Store, person: Person = INES, tenant: str = "default", batch_id: str | None = "b") -> str:
    """A prospect whom Apollo was asked about, in two calls of which the second was billed; returns its id."""
    prospect_id = a_prospect(store, person, tenant)
    opening = an_opening(prospect_id, tenant_id=tenant, batch_id=batch_id)
    result = msgspec.structs.replace(opening.results[0], tenant_id=tenant)
    opening = msgspec.structs.replace(opening, results=(result,))
    mine = {"prospect_id": prospect_id, "source_result_id": result.id, "tenant_id": tenant, "batch_id": batch_id}
    first, second = an_attempt(**mine), an_attempt(**mine)
    known = person is INES
    answer = Answer(tenant, prospect_id, "apollo", "k", ANSWER) if known else None
    close = a_close(result, attempt_id=second.id, fields=FOUND if known else {})
    write(store, opening, Begin(first), Begin(second))
    write(
        store,
        a_finish(first, UNKNOWN_CHARGE, error=f"HTTP 504: no {person.name}", http_status=504),
        a_finish(second, A_CREDIT, request_id="their-id" if known else None, answer=answer, close=close),
        the_end(opening.run),
    )
    with store.writing.begin() as connection:
        connection.execute(
            insert(batch_rows).values(batch_id=batch_id, number=len(rows(store, batch_rows)), prospect_id=prospect_id)
        )
    return prospect_id


def in_flight(store: Store, person: Person = INES) -> tuple[str, OpenRun, Any]:
    """A prospect with an open run and a call that has not been answered."""
    prospect_id = a_prospect(store, person)
    opening = an_opening(prospect_id, "apollo", "exa")
    attempt = an_attempt(prospect_id=prospect_id, source_result_id=opening.results[0].id)
    write(store, msgspec.structs.replace(opening, begins=(attempt,)))
    return prospect_id, opening, attempt


def erased(store: Store, *ids: str, suppress: bool = True) -> Suppressions:
    people = opened_list(store)
    with store.writing.begin() as connection:
        erase(connection, ids, Why(BY_REQUEST, "Anna", LATER, suppress), people)
    return people


def sums(store: Store) -> dict[str, Any]:
    """Every sum there is of the ledger."""
    with store.read() as connection:
        spends = {by: spend_by(connection, by) for by in By}
        of_batch = spend_by(connection, By.SOURCE, batch_id="b")
        outcomes = [outcomes_by_source(connection), outcomes_by_source(connection, "b")]
        right = sorted(tuple(each) for each in connection.execute(folded()))
    assert right == sorted(tuple(each.values()) for each in rows(store, usage_hours))
    return {
        "spends": spends,
        "batch": of_batch,
        "outcomes": outcomes,
        "totals": rows(store, daily_totals),
        "hours": right,
    }


def leads_to(store: Store, *values: str) -> list[str]:
    """The tables in which any of these values is left."""
    return [
        table
        for table, held in everything(store).items()
        if any(value in str(each) for each in held for value in values)
    ]


def test_nothing_leads_to_an_erased_person_and_no_sum_moves(store: Store) -> None:
    others = enriched(store, somebody())
    theirs = [each for each in rows(store, attempts) if each["prospect_id"] == others]
    prospect_id = enriched(store)
    run = next(each for each in rows(store, runs) if each["prospect_id"] == prospect_id)
    result = next(each for each in rows(store, source_results) if each["prospect_id"] == prospect_id)
    before = sums(store)
    erased(store, prospect_id)
    old_ids = (prospect_id, run["id"], result["id"])
    assert leads_to(store, *old_ids, "Okafor", "ines", "+31 20", "their-id", "harbourline") == []
    assert sums(store) == before
    assert [each["id"] for each in rows(store, prospects)] == [others]
    assert [each for each in rows(store, attempts) if each["prospect_id"] == others] == theirs
    kept = [each for each in rows(store, attempts) if each["prospect_id"] != others]
    assert [(each["charge"], each["request_key"], each["error"]) for each in kept] == [
        ("unknown", "erased", "HTTP 504: erased"),
        ("billed", "erased", None),
    ]
    assert {each["source_result_id"] for each in kept} <= {each["id"] for each in rows(store, source_results)}
    assert len({each["prospect_id"] for each in kept}) == 1


def test_an_erasure_is_recorded_without_saying_of_whom(store: Store) -> None:
    erased(store, enriched(store), enriched(store, somebody()), enriched(store, tenant="acme"))
    recorded = rows(store, erasures)
    assert sorted((each["tenant_id"], each["prospects"], each["attempts"]) for each in recorded) == [
        ("acme", 1, 2), ("default", 2, 4),
    ]  # fmt: skip
    assert {(each["cause"], each["erased_by"], each["erased_at"], each["suppressed"]) for each in recorded} == {
        ("request", "Anna", LATER, True)
    }


def test_an_erased_person_is_suppressed_by_all_that_was_known_of_them_for_their_tenant_only(store: Store) -> None:
    erased(store, enriched(store, tenant="acme"))
    kinds = sorted((each["tenant_id"], each["kind"]) for each in rows(store, suppressions))
    # the e-mail asked and the one found; the name with the company and with its domain
    assert kinds == [("acme", "email"), ("acme", "email"), ("acme", "name"), ("acme", "name")]


def test_one_who_may_be_asked_about_again_is_not_suppressed(store: Store) -> None:
    erased(store, enriched(store), suppress=False)
    assert rows(store, suppressions) == []
    assert rows(store, erasures)[0]["suppressed"] is False


def test_erasing_twice_is_erasing_once(store: Store) -> None:
    prospect_id = enriched(store)
    erased(store, prospect_id)
    before = everything(store)
    erased(store, prospect_id)
    assert everything(store) == before


def test_an_open_run_is_closed_as_cancelled(store: Store) -> None:
    prospect_id, _, _ = in_flight(store)
    erased(store, prospect_id)
    assert [(each["status"], each["error"], each["closed_at"]) for each in rows(store, source_results)] == [
        ("cancelled", "erased", LATER)
    ] * 2
    assert (row(store, runs)["closed_at"], row(store, runs)["status"]) == (LATER, "none")


def test_a_call_in_flight_is_charged_when_it_ends_and_brings_nobody_back(store: Store) -> None:
    prospect_id, opening, attempt = in_flight(store)
    people = opened_list(store)
    erased(store, prospect_id)
    close = a_close(opening.results[0], attempt_id=attempt.id, fields=FOUND)
    finish = a_finish(
        attempt, answer=Answer("default", prospect_id, "apollo", "k", ANSWER), close=close, request_id="their-id",
        error="Ines is known", note="ines",
    )  # fmt: skip
    with store.writing.begin() as connection:
        assert apply(connection, [finish, the_end(opening.run)], suppressions=people) == [True, True]
    ended = row(store, attempts)
    assert (ended["charge"], ended["milli_credits"], ended["provider_request_id"], ended["note"]) == (
        "billed", 1000, None, None,
    )  # fmt: skip
    assert row(store, daily_totals)["billed"] == 1
    assert leads_to(store, prospect_id, "Ines", "ines", "their-id") == []
    assert rows(store, prospects) == rows(store, answers) == []


def test_whoever_still_holds_an_erased_person_cannot_ask_about_them(store: Store) -> None:
    prospect_id, opening, _ = in_flight(store)
    people = opened_list(store)
    with store.read() as connection:
        looked = people_version(connection)
    erased(store, prospect_id)
    later = an_attempt(prospect_id=prospect_id, source_result_id=opening.results[1].id)
    with store.writing.begin() as connection:
        again = msgspec.structs.replace(an_opening(prospect_id), checked=looked)
        assert apply(connection, [Begin(later, looked), again], suppressions=people) == [Unwanted(), False]
    assert len(rows(store, attempts)) == 1


def test_somebody_else_of_the_same_commit_is_asked_about_as_ever(store: Store) -> None:
    prospect_id, _, _ = in_flight(store)
    other, theirs, _ = in_flight(store, somebody())
    people = opened_list(store)
    with store.read() as connection:
        looked = people_version(connection)
    erased(store, prospect_id)
    begin = Begin(an_attempt(prospect_id=other, source_result_id=theirs.results[1].id), looked)
    with store.writing.begin() as connection:
        assert apply(connection, [begin], suppressions=people) == [True]


def test_words_about_a_resolved_call_go_and_the_correction_stays(store: Store) -> None:
    prospect_id = enriched(store)
    unknown = next(each for each in rows(store, attempts) if each["charge"] == "unknown")
    with store.writing.begin() as connection:
        resolve(connection, str(unknown["id"]), FOUND_OUT, at=LATER)
    before = sums(store)
    erased(store, prospect_id)
    entry = row(store, corrections)
    assert (entry["note"], entry["became"], entry["corrected_by"]) == ("erased", "free", "Tomas")
    assert sums(store) == before


def test_shared_documents_that_name_the_person_are_found_by_both_names(store: Store) -> None:
    texts = {
        "filing": '{"data":{"owner":"OKAFOR-LIND INES"}}',
        "colleague": '{"data":{"owner":"LIND TOMAS"}}',
        "other": '{"data":{"owner":"Ines Quell"}}',
    }
    with store.writing.begin() as connection:
        for key, reading in texts.items():
            values = {"request_key": key, "provider": "edgar", "attempt_id": "a", "fetched_at": AT, "reading": reading}
            connection.execute(insert(documents).values(values))
        assert documents_naming(connection, [INES, Person(full_name="Madonna")]) == ["filing"]
        assert drop_documents(connection, ["filing"]) == 1


def test_the_store_remembers_that_pieces_may_be_left_in_its_file(store: Store) -> None:
    with store.read() as connection:
        assert traces_since(connection) is None
    erased(store, enriched(store))
    with store.read() as connection:
        assert traces_since(connection) == LATER


# Finding and reporting.


def test_somebody_is_found_by_what_was_asked_by_what_was_found_and_by_id(store: Store) -> None:
    prospect_id = enriched(store)
    enriched(store, somebody())
    with store.writing.begin() as connection:
        connection.execute(update(prospects).where(prospects.c.id == prospect_id).values(external_id="crm-7"))
    with store.read() as connection:
        for value in (
            "INES@harbourline.example",
            "ines.o+x@quell.example",
            "Inès Okafor-Lind",
            "crm-7",
            prospect_id[:20],
        ):
            assert [each.prospect_id for each in find(connection, value)] == [prospect_id], value
        assert find(connection, "ines@harbourline.example", "acme") == []
        assert find(connection, "nobody@quell.example") == []


def test_a_report_says_what_is_held_who_said_so_which_calls_were_made_and_in_which_file(store: Store) -> None:
    prospect_id = enriched(store)
    with store.writing.begin() as connection:
        values = {"id": "b", "tenant_id": "default", "name": "people.csv", "digest": "d", "options": "{}"}
        values |= {"trigger": "file", "refresh": False, "generation": 1, "created_at": AT, "finished_at": LATER}
        connection.execute(insert(batches).values(values))
    people = opened_list(store)
    view = Event(Action.PROFILE_VIEWED, "default", "ann", AT, prospect_id)
    export = Event(Action.CSV_EXPORTED, "default", "bob", LATER)
    taken_out = Export(export.id, prospect_id, "default", LATER)
    write(store, view, export, Task(lambda connection: record_exported(connection, [taken_out])))
    with store.read() as connection:
        said = report(connection, prospect_id, "Invitations to our fund.", people)
        assert report(connection, "nobody", "", people) is None
    assert said is not None
    assert (said.as_asked, said.since, said.purpose, said.suppressed) == (INES, AT, "Invitations to our fund.", False)
    assert [(each.field, each.source, each.value) for each in said.values] == [
        ("phone", "apollo", "+31 20 794"), ("work_email", "apollo", "ines.o@quell.example"),
    ]  # fmt: skip
    assert [(each.provider, each.endpoint, each.charge) for each in said.calls] == [
        ("apollo", "people/match", "unknown"), ("apollo", "people/match", "billed"),
    ]  # fmt: skip
    assert [(each.name, each.rows, each.finished_at) for each in said.batches] == [("people.csv", [1], LATER)]
    assert [each.source for each in said.answers] == ["apollo"]
    assert said.done == [Done(AT, "ann", "profile_viewed"), Done(LATER, "bob", "csv_exported")]
    assert said.sources["apollo"].status == "complete"


def test_an_erased_prospects_run_is_shown_no_more(store: Store) -> None:
    prospect_id = enriched(store)
    with store.read() as connection:
        (shown,) = latest_runs(connection, 5)
    erased(store, prospect_id)
    with store.read() as connection:
        assert latest_runs(connection, 5) == []
        assert timeline(connection, shown.run_id) is None


def test_after_rewriting_nothing_of_the_erased_is_left_in_any_part_of_the_file(store: Store, store_url: str) -> None:
    ids = [enriched(store, somebody(number)) for number in range(120)]
    chance = Random(7)
    for _ in range(3):  # rows that grow at random are moved between pages, and leave copies behind
        with store.writing.begin() as connection:
            for prospect_id in chance.sample(ids, len(ids)):
                padding = as_json({"title:apollo": ["x" * chance.randint(0, 900), LATER, "a", 1]})
                connection.execute(update(prospects).where(prospects.c.id == prospect_id).values(fields=padding))
    erased(store, *ids)
    assert remove_traces(store)
    with store.read() as connection:
        assert traces_since(connection) is None
    held = b"".join(
        path.read_bytes()
        for path in Path(store_url.removeprefix("sqlite:///")).parent.glob("ledger.db*")
        if path.is_file()
    )
    assert b"quell" not in held
    assert not [prospect_id for prospect_id in ids if prospect_id.encode() in held]
