"""Prospects: who was asked about, what is held about them and from where, and how each source stands."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Connection, select

from sluiceway.activity import Action, record
from sluiceway.api.answers import Json, answers
from sluiceway.api.caller import Asker, who_may
from sluiceway.api.paging import LIMIT, CursorText, Limit, Page, after, cursor
from sluiceway.errors import BadInput, Conflict, Mistaken, NotThere
from sluiceway.outcome import SourceStatus, parse_timestamp, read_statuses, timestamp
from sluiceway.people_row import LONGEST_CELL, person_of
from sluiceway.pipeline.intake import Entered, Entry, Intake, Withheld, withhold, withhold_again
from sluiceway.pipeline.selection import Selection, matching
from sluiceway.prospect import Person, best
from sluiceway.rights.erasure import BY_REQUEST, Erased, Why, documents_naming, drop_documents, erase
from sluiceway.rights.report import Report, report
from sluiceway.rights.suppression import Suppressions, signs_of_row
from sluiceway.store.engine import backups_of
from sluiceway.store.schema import prospects as prospects_table
from sluiceway.tenancy import audit
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.scope import Scope

router = APIRouter(prefix="/prospects", tags=["prospects"])

Reader = Annotated[Asker, who_may(Permission.READ_PROSPECTS)]
Editor = Annotated[Asker, who_may(Permission.WRITE_PROSPECTS)]
Eraser = Annotated[Asker, who_may(Permission.DELETE_PROSPECTS)]

MOST_AT_ONCE: Final = 500
_TAKEN_IN_AT_ONCE: Final = 100
"""People per transaction: a few milliseconds, in which no call can begin."""

_PATIENCE_S: Final = 20.0
"""Seconds that whoever erases waits for the store's file to be rewritten."""


# What is asked for.

Text = Annotated[str, Field(max_length=LONGEST_CELL)]
OwnId = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class ProspectAsked(BaseModel):
    """Somebody: a LinkedIn profile, an e-mail, or a name together with a company or its domain."""

    external_id: OwnId = Field("", description="Your own id of this person.")
    first_name: Text = ""
    last_name: Text = ""
    full_name: Text = Field("", description="The whole name, where its parts are not known.")
    company: Text = ""
    domain: Text = Field("", description="The company's website.")
    email: Text = ""
    linkedin_url: Text = Field("", description="A person's profile: linkedin.com/in/…")
    title: Text = ""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "external_id": "crm-1042",
                    "first_name": "Ines",
                    "last_name": "Okafor",
                    "company": "Harbourline",
                    "email": "ines@harbourline.example",
                }
            ]
        },
    )

    def entry(self) -> Entry:
        """Return who is to be taken in; raises `BadInput` for a part that cannot be used."""
        return Entry(person_of(self.model_dump(exclude={"external_id"})), self.external_id)


class ManyAsked(BaseModel):
    """People to take in at once."""

    model_config = ConfigDict(extra="forbid")

    prospects: list[ProspectAsked] = Field(min_length=1, max_length=MOST_AT_ONCE)


Standing = Literal["none", "running", "complete", "no_data", "partial", "failed"]
Moment = Annotated[str, Query(max_length=40, description="ISO 8601; UTC where it names no zone.")]


def which_of(
    enrichment_status: Annotated[list[Standing] | None, Query(description="Any of these.")] = None,
    source: Annotated[
        str, Query(max_length=100, pattern=r"^[\w-]*$", description="With `source_status`: whose status is meant.")
    ] = "",
    source_status: Annotated[str, Query(max_length=100, description="How `source` stands.")] = "",
    batch_id: Annotated[str, Query(max_length=100, description="Only who is in this batch.")] = "",
    external_id: Annotated[str, Query(max_length=1000, description="Only who has this id of yours.")] = "",
    text: Annotated[str, Query(max_length=200, description="Part of a name, company or address, in any case.")] = "",
    created_from: Moment = "",
    created_to: Moment = "",
) -> Selection:
    """Return which prospects a query means."""
    if bool(source) != bool(source_status):
        raise BadInput("source and source_status go together: ?source=exa&source_status=failed")
    return Selection(
        enrichment_status=tuple(enrichment_status or ()),
        source_status={source: source_status} if source else {},
        batch_id=batch_id,
        external_id=external_id,
        text=text,
        created_from=stamp_of("created_from", created_from),
        created_to=stamp_of("created_to", created_to),
    )


def stamp_of(name: str, text: str) -> str:
    """Return a moment as tables hold it, so that it can be compared; raises `BadInput` for what is none."""
    moment = parse_timestamp(text)
    if text and moment is None:
        raise BadInput(f"{name}: {text!r} is no moment; write one as 2026-03-01T00:00:00Z")
    return timestamp(moment) if moment else ""


# What is answered.


class ShownField(msgspec.Struct, frozen=True):
    """A value that is held, with where it comes from; `confidence` is 0 to 100."""

    value: Any
    source: str
    at: str
    attempt_id: str | None
    confidence: int


class ShownProspect(msgspec.Struct, frozen=True):
    """One prospect. `enrichment_source_status` says how each source stands, `enrichment_status` sums it up.

    Of somebody who is `suppressed` nothing is shown that was found.
    """

    id: str
    tenant_id: str
    external_id: str | None
    person: Person
    fields: dict[str, ShownField]
    enrichment_status: str
    enrichment_source_status: dict[str, SourceStatus]
    suppressed: bool
    last_run_id: str | None
    created_at: str


class Fate(StrEnum):
    """What became of somebody who was to be taken in."""

    MADE = "made"
    KNOWN = "known"
    REJECTED = "rejected"
    SUPPRESSED = "suppressed"


class TakenIn(msgspec.Struct, frozen=True):
    """What became of one person, by their place from 0 in the list; `reason` says why somebody was rejected."""

    number: int
    fate: Fate
    id: str | None = None
    external_id: str | None = None
    reason: str | None = None


class AllTakenIn(msgspec.Struct, frozen=True):
    """What became of everybody in a list, in its order, and how many of each there were."""

    counts: dict[Fate, int]
    items: list[TakenIn]


class Deleted(msgspec.Struct, frozen=True):
    """What an erasure took and left.

    `calls_kept` are the calls that stay as money, without a way to the person; `suppressed` counts the signs that are
    on the suppression list since. `file_rewritten`: nothing is left in unused parts of the store's file; where it is
    false, that is still going on. `backups` counts copies that migrations left beside the store, which its operator
    has to see to.
    """

    id: str
    calls_kept: int
    suppressed: int
    documents_dropped: int
    file_rewritten: bool
    backups: int


# Reading.


def shown(row: Any, *, suppressed: bool) -> ShownProspect:
    """Return a row as it is shown."""
    held = {} if suppressed else best(msgspec.json.decode(row.fields))
    return ShownProspect(
        id=row.id,
        tenant_id=row.tenant_id,
        external_id=row.external_id,
        person=msgspec.json.decode(row.person, type=Person),
        fields={name: ShownField(v.value, v.source, v.at, v.attempt_id, v.confidence) for name, v in held.items()},
        enrichment_status=row.enrichment_status,
        enrichment_source_status=read_statuses(msgspec.json.decode(row.enrichment_source_status)),
        suppressed=suppressed,
        last_run_id=row.last_run_id,
        created_at=row.created_at,
    )


def show_all(connection: Connection, rows: Sequence[Any], suppressions: Suppressions) -> list[ShownProspect]:
    """Return rows as they are shown, without what was found about people on the suppression list."""
    suppressions.look(connection)
    whose = {} if suppressions.is_empty else {row.id: (row.tenant_id, signs_of_row(row)) for row in rows}
    suppressed = suppressions.among(connection, whose)
    return [shown(row, suppressed=row.id in suppressed) for row in rows]


def found(connection: Connection, prospect_id: str, scope: Scope) -> Any:
    """Return a prospect's row; raises `NotThere` for one that is nobody's, or another tenant's."""
    p = scope.of(prospects_table)
    row = connection.execute(select(p).where(p.c.id == prospect_id)).first()
    if row is None:
        raise NotThere(f"there is no prospect {prospect_id!r}")
    return row


def one(connection: Connection, prospect_id: str, asker: Asker) -> ShownProspect:
    """Return a prospect as it is shown; raises `NotThere` for one that is nobody's, or another tenant's."""
    row = found(connection, prospect_id, asker.scope)
    return show_all(connection, [row], asker.world.suppressions)[0]


def page_of(connection: Connection, selection: Selection, last: str, limit: int, asker: Asker) -> Page[ShownProspect]:
    """Return those prospects who are meant, oldest first."""
    p = asker.scope.of(prospects_table)
    query = select(p).where(matching(selection, p.c), p.c.id > last).order_by(p.c.id).limit(limit + 1)
    rows = connection.execute(query).all()
    items = show_all(connection, rows[:limit], asker.world.suppressions)
    return Page(items, cursor(items[-1].id) if len(rows) > limit else None)


@router.get("", **answers(Page[ShownProspect]))
async def list_prospects(
    asker: Reader,
    selection: Annotated[Selection, Depends(which_of)],
    limit: Limit = LIMIT,
    cursor_text: CursorText = None,
) -> Json:
    """List prospects, oldest first: all, or those who are everything that is asked for."""
    start = after(cursor_text, tuple[str])
    return Json(await asker.world.read(page_of, selection, start[0] if start else "", limit, asker))


@router.get("/{prospect_id}", name="read_prospect", **answers(ShownProspect, problems=[404]))
async def read(prospect_id: str, asker: Reader) -> Json:
    """Read one prospect: every field with its source, and how each source stands. Recorded as a profile view."""
    prospect = await asker.world.read(one, prospect_id, asker)
    asker.world.post(asker.did(Action.PROFILE_VIEWED, prospect_id, prospect.tenant_id))
    return Json(prospect)


@router.get("/{prospect_id}/report", name="report_on_prospect", **answers(Report, problems=[404]))
async def report_on(prospect_id: str, asker: Eraser) -> Json:
    """Say everything that is held about one person, for that person: see `docs/personal-data.md`."""
    return Json(await asker.world.read(_report, prospect_id, asker))


def _report(connection: Connection, prospect_id: str, asker: Asker) -> Report:
    found(connection, prospect_id, asker.scope)
    said = report(connection, prospect_id, asker.world.settings.purpose, asker.world.suppressions)
    if said is None:
        raise NotThere(f"there is no prospect {prospect_id!r}")
    return said


# Taking people in.


@router.post(
    "",
    name="create_prospect",
    **answers(
        ShownProspect,
        201,
        problems=[400, 409],
        also={200: ShownProspect},
        description="Made (201), or there already (200).",
    ),
)
async def create(asked: ProspectAsked, asker: Editor) -> Json:
    """Take one person in, as a prospect; nobody is asked about them yet.

    One that is there already, by `external_id` or else as the same person, is added to: no fact is replaced, and a
    prospect keeps the `external_id` it has. 409 where the `external_id` is another person's, or the person is on a
    suppression list that holds for this tenant; then nothing is kept.
    """
    entry = asked.entry()
    withheld = await _withheld([entry], asker)
    entered = await asker.world.write(_take_one_in, entry, withheld, asker)
    shown_one = await asker.world.read(one, entered.prospect_id, asker)
    return Json(shown_one, 201 if entered.made else 200, {"Location": f"/api/v1/prospects/{entered.prospect_id}"})


async def _withheld(entries: Sequence[Entry], asker: Asker) -> Withheld:
    return await asker.world.read(withhold, asker.tenant_id, entries, asker.world.suppressions)


def _take_one_in(connection: Connection, entry: Entry, withheld: Withheld, asker: Asker) -> Entered:
    if withhold_again(connection, asker.tenant_id, [entry], withheld, asker.world.suppressions):
        raise Conflict("this person is on the suppression list, so nobody may ask about them and nothing is kept")
    intake = Intake(connection, asker.tenant_id, [entry])
    entered = intake.take(entry)
    _settle(connection, intake, [entered], asker)
    return entered


def _settle(connection: Connection, intake: Intake, entered: Sequence[Entered], asker: Asker) -> None:
    """Bring what was taken in into the store, and record who brought it."""
    intake.write(asker.world.stamp)
    record(connection, [asker.did(Action.PROSPECT_IMPORTED, each.prospect_id) for each in entered if each.made])


@router.post("/bulk", name="create_prospects", **answers(AllTakenIn, problems=[400]))
async def create_many(asked: ManyAsked, asker: Editor) -> Json:
    """Take up to 500 people in, each as with a single one, and say of everyone what became of them.

    The others go on where somebody is rejected or suppressed. The same list again changes nothing.
    """
    items: list[TakenIn] = []
    for first in range(0, len(asked.prospects), _TAKEN_IN_AT_ONCE):
        items += await _chunk(first, asked.prospects[first : first + _TAKEN_IN_AT_ONCE], asker)
    return Json(AllTakenIn({fate: sum(item.fate is fate for item in items) for fate in Fate}, items))


async def _chunk(first: int, asked: Sequence[ProspectAsked], asker: Asker) -> list[TakenIn]:
    entries: dict[int, Entry] = {}
    became: dict[int, TakenIn] = {}
    for number, each in enumerate(asked, first):
        try:
            entries[number] = each.entry()
        except BadInput as mistake:
            became[number] = _fate(number, Fate.REJECTED, each.external_id, reason=str(mistake))
    withheld = await _withheld(list(entries.values()), asker)
    taken = await asker.world.write(_take_many_in, entries, withheld, asker)
    became |= {item.number: item for item in taken}
    return [became[number] for number in sorted(became)]


def _take_many_in(connection: Connection, entries: dict[int, Entry], withheld: Withheld, asker: Asker) -> list[TakenIn]:
    people = list(entries.values())
    places = withhold_again(connection, asker.tenant_id, people, withheld, asker.world.suppressions)
    intake = Intake(connection, asker.tenant_id, people)
    taken, entered = [], []
    for place, (number, entry) in enumerate(entries.items()):
        if place in places:
            taken.append(_fate(number, Fate.SUPPRESSED, entry.external_id))
            continue
        try:
            entered.append(intake.take(entry))
        except Mistaken as mistake:
            taken.append(_fate(number, Fate.REJECTED, entry.external_id, reason=str(mistake)))
        else:
            fate = Fate.MADE if entered[-1].made else Fate.KNOWN
            taken.append(_fate(number, fate, entry.external_id, entered[-1].prospect_id))
    _settle(connection, intake, entered, asker)
    return taken


def _fate(number: int, fate: Fate, external_id: str, made: str | None = None, reason: str | None = None) -> TakenIn:
    return TakenIn(number, fate, made, external_id or None, reason)


# Erasing.


@router.delete("/{prospect_id}", name="delete_prospect", **answers(Deleted, problems=[404]))
async def delete(
    prospect_id: str,
    asker: Eraser,
    suppress: Annotated[
        bool, Query(description="Put them on the tenant's suppression list, so that nobody is asked about them again.")
    ] = True,
) -> Json:
    """Erase a person: what tells who they are goes, what was spent on them stays as money, and no sum changes.

    The store's file is rewritten then, so that nothing is left in its unused parts; the answer waits 20 seconds for
    that, and other requests do not.
    """
    world = asker.world
    person = (await world.read(one, prospect_id, asker)).person
    documents = await world.read(documents_naming, [person])
    gone, dropped = await world.write(_erase, prospect_id, documents, suppress, asker)
    rewritten = await world.rewriter.rewrite(_PATIENCE_S)
    backups = len(backups_of(world.store))
    return Json(Deleted(prospect_id, gone.attempts, gone.signs, dropped, rewritten, backups))


def _erase(
    connection: Connection, prospect_id: str, documents: Sequence[str], suppress: bool, asker: Asker
) -> tuple[Erased, int]:
    """Erase somebody who is there, with who did so; the record of it is of nobody, too, when it is done."""
    row = found(connection, prospect_id, asker.scope)
    world, actor = asker.world, asker.principal.actor
    record(connection, [asker.did(Action.PROSPECT_DELETED, prospect_id, row.tenant_id)])
    gone = erase(connection, [prospect_id], Why(BY_REQUEST, actor, world.stamp, suppress), world.suppressions)
    detail = "suppressed" if suppress else "not suppressed"
    audit.record(
        connection, "prospect.erase", "prospect:erased", by=actor, now=world.now, tenant_id=row.tenant_id, detail=detail
    )
    return gone, drop_documents(connection, documents)
