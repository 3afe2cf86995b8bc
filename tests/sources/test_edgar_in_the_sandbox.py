"""EDGAR is walked over real HTTP, on calm days and bad ones, and its meter agrees with what was counted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from contract import a_bad_day, agrees_with_meter, somebody
from edgar_shelf import PERSON

from sluiceway.errors import LostAnswer, ProviderChanged
from sluiceway.outcome import BOUGHT, FREE, UNKNOWN_CHARGE, ChargeKind, Status
from sluiceway.prospect import Person
from sluiceway.sandbox.filings import Docket, Filing
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.sandbox.scenario import SHIPPED
from sluiceway.sandbox.world import World
from sluiceway.sources._contract import Reading, Request, Retry, Skip, Subject, understand
from sluiceway.sources._http import Door
from sluiceway.sources.edgar import Edgar


@pytest.fixture
def unhurried(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    """The sandbox without the SEC's limit on requests per second, which it is not for a source to keep."""
    sandbox.post("/_scenario", "description = 'No limit.'\n[edgar]\nlimit = 0\n")
    yield sandbox
    sandbox.post("/_scenario", (SHIPPED / "calm.toml").read_text())


class Visit:
    """Walks through the sandbox that share what is shared, as one process of ours does."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox
        self.source = Edgar("Sample Company admin@sample.example")
        self.today = dt.date.fromisoformat(sandbox.get("/_scenario")["today"])
        self.kept: dict[str, Reading] = {}
        self.readings: list[Reading] = []

    async def walk(self, person: Person) -> Reading | Skip:
        subject = Subject(person, (), self.today)
        steps = self.source.ask(subject)
        async with Door() as door:
            try:
                asked = next(steps)
                while True:
                    if isinstance(asked, tuple):
                        asked = steps.send(tuple([await self.ask(door, subject, each) for each in asked]))
                    else:
                        asked = steps.send(await self.ask(door, subject, asked))
            except StopIteration as stop:
                last: Reading | Skip = stop.value
                return last

    async def ask(self, door: Door, subject: Subject, request: Request) -> Reading:
        key = request.key("edgar")
        if key not in self.kept:
            reading = await self.fetch(door, subject, request)
            self.readings.append(reading)
            if reading.status not in BOUGHT or reading.charge.kind is ChargeKind.UNKNOWN:
                return reading
            self.kept[key] = reading
        return self.kept[key]

    async def fetch(self, door: Door, subject: Subject, request: Request) -> Reading:
        try:
            url = self.sandbox.url + self.source.sandbox[request.host]
            return understand(self.source, subject, request, await door.send(self.source, request, url, 5.0))
        except (LostAnswer, ProviderChanged) as error:
            return Reading(Status.FAILED, UNKNOWN_CHARGE, str(error))


def leaders(visit: Visit, *, insiders: bool, count: int) -> list[tuple[Person, list[Filing], int]]:
    """People of listed companies as a list of people spells them, what they filed, and their number at the SEC."""
    docket = Docket(World(today=visit.today))
    since = visit.today.replace(year=visit.today.year - 2, day=min(visit.today.day, 28))
    found = []
    for number, subject in enumerate(somebody(600)):
        who = docket.world.person(number)
        is_insider = docket.is_insider(who.company.number, who.place)
        if not who.company.cik or is_insider is not insiders or not subject.person.company:
            continue
        cik = docket.cik_of(who.company.number, who.place)
        recent = [filing for filing in docket.of_owner(cik) if filing.filed >= since] if insiders else []
        if bool(recent) is insiders:
            found.append((subject.person, recent, cik))
    return found[:count]


async def test_insiders_in_the_sandbox_are_found_with_everything_they_filed(unhurried: SandboxProcess) -> None:
    visit = Visit(unhurried)
    for person, filings, cik in leaders(visit, insiders=True, count=25):
        last = await visit.walk(person)
        assert isinstance(last, Reading)
        assert last.status is Status.COMPLETE, (person, last)
        trades = last.found[0].value
        assert trades["owner"]["cik"] == f"{cik:010d}"
        assert trades["filings_total"] == len(filings)
        read = [filing for filing in filings if filing.accession in trades["filings"]]
        assert len(read) + len(trades["superseded"]) == min(len(filings), 20)
        assert trades["transactions_total"] == sum(len(filing.trades) for filing in read)
        told = sum(line["price"] is None for line in trades["transactions"])
        assert told == sum(trade.price is None for filing in read for trade in filing.trades)
    agrees_with_meter(visit.source, visit.readings, unhurried)
    assert unhurried.meter()["providers"]["edgar"]["repeated_requests"] == 0


async def test_who_is_no_insider_in_the_sandbox_is_found_to_be_none(unhurried: SandboxProcess) -> None:
    visit = Visit(unhurried)
    for person, _, _ in leaders(visit, insiders=False, count=10):
        last = await visit.walk(person)
        assert isinstance(last, Reading)
        assert (last.status, last.charge) == (Status.NO_DATA, FREE)
        assert last.data["why"].startswith("no insider of")
    agrees_with_meter(visit.source, visit.readings, unhurried)


async def test_insiders_in_the_sandbox_are_found_without_the_search(unhurried: SandboxProcess) -> None:
    visit = Visit(unhurried)
    everyone = leaders(visit, insiders=True, count=5)
    for person, _, cik in everyone:
        if visit.readings:  # the ticker map is held, so the search comes first
            unhurried.post("/_answer", {"provider": "edgar", "status": 500})
        last = await visit.walk(person)
        assert isinstance(last, Reading)
        if last.status is Status.COMPLETE:
            assert last.found[0].value["owner"]["cik"] == f"{cik:010d}"
        else:  # not among the newest filings, and nothing is claimed
            assert (last.status, last.error) == (Status.FAILED, "HTTP 500: no reason given")
    agrees_with_meter(visit.source, visit.readings, unhurried)


async def test_on_a_bad_day_every_walk_ends_and_the_count_stays_within_what_is_sure(sandbox: SandboxProcess) -> None:
    visit = Visit(sandbox)
    with a_bad_day(sandbox):
        for person, _, _ in leaders(visit, insiders=True, count=25):
            last = await visit.walk(person)
            assert isinstance(last, Reading)
            assert last.status is Status.COMPLETE or last.error
        agrees_with_meter(visit.source, visit.readings, sandbox)


async def test_who_does_not_say_who_they_are_is_shut_out_of_the_sandbox(sandbox: SandboxProcess) -> None:
    visit = Visit(sandbox)
    visit.source = Edgar("Sample Company")
    last = await visit.walk(PERSON)
    assert isinstance(last, Reading)
    assert (last.status, last.retry) == (Status.UNAUTHORIZED, Retry.STOP)


@pytest.mark.parametrize(
    ("sender", "status"), [("Sample Company admin@sample.example", Status.COMPLETE), ("x", Status.UNAUTHORIZED)]
)
async def test_the_check_tells_in_the_sandbox_whether_the_sender_is_let_in(
    sandbox: SandboxProcess, sender: str, status: Status
) -> None:
    visit = Visit(sandbox)
    visit.source = Edgar(sender)
    async with Door() as door:
        reading = await visit.fetch(door, Subject(PERSON, (), visit.today), visit.source.check())
    assert (reading.status, reading.charge) == (status, FREE)
    agrees_with_meter(visit.source, [reading], sandbox)
