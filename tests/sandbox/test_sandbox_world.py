"""The world is the same for the same seed, and everybody in it is found again by what a client knows of them."""

from __future__ import annotations

import csv
from datetime import date
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from sluiceway.sandbox.companies import COMPANIES, Registry, company_key, domain_of, number_of_domain
from sluiceway.sandbox.filings import Docket
from sluiceway.sandbox.names import FIRST_NAMES, NICKNAMES, SURNAMES, fold, index_of, index_of_full, name_at
from sluiceway.sandbox.pages import page_at, pages_about
from sluiceway.sandbox.people import HEADER, people_csv
from sluiceway.sandbox.seeded import Shuffle
from sluiceway.sandbox.world import POPULATION, World

TODAY = date(2026, 11, 24)
SHARED = World(7, TODAY)
numbers = st.integers(0, POPULATION - 1)


@given(st.integers(0, 2**64 - 1), st.integers(2, 32), st.data())
def test_a_shuffle_can_be_undone(key: int, bits: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 2**bits - 1))
    shuffle = Shuffle(key, bits)
    assert 0 <= shuffle.forward(number) < 2**bits
    assert shuffle.back(shuffle.forward(number)) == number


@given(numbers)
@settings(max_examples=150, deadline=None)
def test_everybody_is_found_by_whatever_is_known_of_them(number: int) -> None:
    person = SHARED.person(number)
    employer = person.company
    assert person.number == number
    assert SHARED.by_email(person.email) == person
    assert SHARED.by_linkedin(person.linkedin_url + "/?trk=x") == person
    assert SHARED.by_mark(person.mark) == person
    assert SHARED.by_name(person.name, company=employer.legal_name.upper()) == person
    assert SHARED.by_name(f"{person.last_name}, {person.first_name}", company=employer.name) == person
    assert SHARED.by_names(person.first_name.upper(), fold(person.last_name), domain=f"www.{employer.domain}") == person
    assert SHARED.in_text(f'"{person.name}" {employer.legal_name} career')[0] == person
    if person.personal_email:
        assert SHARED.by_email(person.personal_email) == person


@given(numbers, st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_same_seed_makes_the_same_person(number: int, seed: int) -> None:
    assert World(seed, TODAY).person(number) == World(seed, TODAY).person(number)


@given(numbers)
@settings(max_examples=60, deadline=None)
def test_a_namesake_has_the_same_name_and_another_employer(number: int) -> None:
    person = SHARED.person(number)
    other = SHARED.namesake(person)
    assert other.name == person.name
    assert other.company != person.company
    assert other.email != person.email


def test_another_seed_makes_other_people() -> None:
    assert [World(1, TODAY).person(n).email for n in range(5)] != [World(2, TODAY).person(n).email for n in range(5)]


def test_strangers_are_not_found() -> None:
    assert SHARED.by_email("nobody@nowhere.example") is None
    assert SHARED.by_email("no address") is None
    assert SHARED.by_linkedin("https://www.linkedin.com/in/nobody-00000000") is None
    assert SHARED.by_linkedin("") is None
    assert SHARED.by_name("Nobody Inparticular", company="Nowhere") is None
    assert SHARED.by_names("", "", domain="") is None


def test_names_are_told_apart_however_they_are_spelled() -> None:
    assert len(FIRST_NAMES) == len({fold(name) for name in FIRST_NAMES}) == 256
    assert len(SURNAMES) == len({fold(name) for name in SURNAMES}) == 1024
    assert index_of("bob", "Müller") == index_of("Robert", "MULLER") == index_of_full("Müller, Robert J.")
    assert all(index_of(nick, SURNAMES[0]) == index_of(full, SURNAMES[0]) for nick, full in NICKNAMES.items())
    assert name_at(index_of("Łukasz", "de la Cruz") or -1) == ("Łukasz", "de la Cruz")


def test_companies_have_names_and_domains_of_their_own() -> None:
    registry = Registry(7)
    companies = [registry.get(number) for number in range(COMPANIES)]
    assert len({company_key(company.legal_name) for company in companies}) == COMPANIES
    assert len({company.domain for company in companies}) == COMPANIES
    assert all(number_of_domain(domain_of(number)) == number for number in range(0, COMPANIES, 97))


def test_a_quarter_of_the_companies_is_listed_each_under_its_own_cik_and_ticker() -> None:
    registry = Registry(7)
    listed = [registry.get(number) for number in range(COMPANIES) if registry.is_listed(number)]
    assert 3500 < len(listed) < 4500
    assert len({company.cik for company in listed}) == len({company.ticker for company in listed}) == len(listed)
    assert all(registry.number_of_cik(company.cik or 0) == company.number for company in listed)


def test_traits_come_in_about_the_shares_promised() -> None:
    people = [SHARED.person(number) for number in range(4000)]
    shares = {
        trait: sum(getattr(person, trait) for person in people) / 4000
        for trait in ("in_apollo", "in_contactout", "in_exa")
    }
    assert abs(shares["in_apollo"] - 0.80) < 0.03
    assert abs(shares["in_contactout"] - 0.65) < 0.03
    assert abs(shares["in_exa"] - 0.85) < 0.03


def test_every_page_is_found_again_by_its_address() -> None:
    for number in range(100):
        for page in pages_about(SHARED, SHARED.person(number)):
            found = page_at(SHARED, page.url)
            assert found is not None
            assert found.text == page.text


def test_insiders_have_between_one_and_twenty_five_filings_of_their_own_kind() -> None:
    docket = Docket(SHARED)
    insiders = [p for p in map(SHARED.person, range(2000)) if docket.is_insider(p.company.number, p.place)]
    filings = [docket.of_owner(docket.cik_of(person.company.number, person.place)) for person in insiders]
    assert 0.08 < len(insiders) / 2000 < 0.25
    assert all(1 <= len(each) <= 50 for each in filings)  # their own, and joint ones of a colleague
    assert all(filing.filed < TODAY for each in filings for filing in each)
    everything = [filing for each in filings for filing in each]
    assert any(filing.form == "4/A" and filing.original for filing in everything)
    assert any(len(filing.owners) > 1 for filing in everything)
    assert any(not filing.trades for filing in everything)
    assert any(trade.price is None and trade.footnote for filing in everything for trade in filing.trades)
    assert all(docket.by_folder(filing.folder) == filing for filing in everything[:200])


def test_a_list_of_people_is_the_same_each_time_and_repeats_nobody() -> None:
    lines = list(people_csv(500, seed=3, tenants=4, start=20))
    assert lines == list(people_csv(500, seed=3, tenants=4, start=20))
    rows = list(csv.DictReader(lines))
    assert len(rows) == 500
    assert len({tuple(row.values()) for row in rows}) == 500
    assert len({row["tenant"] for row in rows}) == 4


def test_everybody_on_a_list_can_be_found_from_their_row() -> None:
    world = World(3, TODAY)
    for number, row in enumerate(csv.DictReader(people_csv(800, seed=3))):
        name, employer = f"{row['first_name']} {row['last_name']}", {"company": row["company"], "domain": row["domain"]}
        found = (
            world.by_linkedin(row["linkedin_url"]) or world.by_email(row["email"]) or world.by_name(name, **employer)
        )
        assert found is not None
        assert found.number == number
        if row["company"] or row["domain"]:
            assert world.by_name(name, **employer) == found


def test_a_list_is_as_uneven_as_real_ones() -> None:
    rows = list(csv.DictReader(people_csv(1000, seed=3)))
    assert tuple(rows[0]) == HEADER
    for column in ("email", "linkedin_url", "title", "domain"):
        empty = sum(not row[column] for row in rows)
        assert 50 < empty < 500
    assert all(row["tenant"] == "" for row in rows)


def test_duplicates_are_there_only_when_asked_for() -> None:
    names = [(row["first_name"], row["last_name"]) for row in csv.DictReader(people_csv(300, seed=3, duplicates=0.2))]
    assert 330 < len(names) < 400


def test_a_long_list_is_written_as_it_is_read() -> None:
    assert len(list(islice(people_csv(10_000_000, seed=3), 3))) == 3
