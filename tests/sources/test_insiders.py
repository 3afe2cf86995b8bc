"""A Form 4 belongs to the right person, and is counted once."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from form4_documents import INES, ISSUER, SAMPLES, a_document, a_line, filed, samples
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.sources._form4 import Form4, read_form4
from sluiceway.sources._insiders import Filed, insider_summary, owned_by, same_given_name, settle_amendments


def summary_of(*filings: Filed) -> dict[str, Any]:
    summary = insider_summary(settle_amendments(filings).kept, owner_cik=INES[0], issuer_cik=ISSUER)
    assert summary is not None
    return summary


def named(*names: str) -> Form4:
    return read_form4(a_document(owners=tuple((str(number), name) for number, name in enumerate(names, 1))))


def owner_for(person: str, *names: str) -> str | None:
    owner = owned_by(named(*names), person)
    return owner.name if owner else None


# --- whose filing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "filed_as"),
    [
        ("Ines Okafor-Lind", "OKAFOR-LIND INES M"),
        ("Ines Okafor-Lind", "Okafor Lind Ines"),
        ("Ines M. Okafor-Lind", "Okafor-Lind Ines Maria"),
        ("Okafor-Lind, Ines", "OKAFOR-LIND INES"),
        ("Inès Okafor‑Lind", "OKAFOR-LIND INES"),  # a non-breaking hyphen, as pasted from a web page
        ("Ada Byron", "Ada Byron"),
        ("Ada Byron", "Byron Ada"),
        ("Søren Łukasz Ångström", "ANGSTROM SOREN"),
        ("Patrick O’Brien", "O BRIEN PATRICK J"),
        ("Ursula von der Leyen", "VON DER LEYEN URSULA"),
        ("Carlos de la Cruz", "DELACRUZ CARLOS"),
        ("Jean-Claude Vandamme", "VANDAMME JEAN CLAUDE"),
        ("Steven Blanco", "Blanco Steven C. Sr."),
        ("Harold Burns III", "BURNS HAROLD J"),
        ("Harold Burns, Jr.", "BURNS HAROLD J JR"),
        ("J. P. Morgan", "MORGAN JOHN PIERPONT"),
        ("Dr. Marie Curie, PhD", "CURIE MARIE"),
    ],
)
def test_a_person_is_found_however_the_name_is_written(person: str, filed_as: str) -> None:
    assert owner_for(person, "LIND HOLDINGS LLC", filed_as) == filed_as


@pytest.mark.parametrize(
    ("person", "filed_as"),
    [
        ("Robert Smith", "SMITH JOHN"),
        ("Robert Smith", "SMITH JOHN ROBERT"),
        ("Robert Smith", "SMITH J ROBERT"),
        ("Robert Smith", "SMITHSON ROBERT"),
        ("Jean Dupont", "DUPONT JEAN-CLAUDE"),
        ("Ines Lind", "OKAFOR-LIND INES"),
        ("Ines Okafor", "OKAFOR-LIND INES"),
        ("Harold Burns Jr", "BURNS HAROLD SR"),
        ("John Paul Smith", "SMITH JOHN MATTHEW"),
        ("Ines Lind", "LIND INES FAMILY TRUST"),
        ("Reid Hoffman", "Reid Hoffman & Michelle Yee Living Trust"),
        ("Ines", "OKAFOR-LIND INES"),
        ("", "OKAFOR-LIND INES"),
        ("Ines Lind", "LIND " * 40 + "INES"),
    ],
)
def test_somebody_else_is_not_found(person: str, filed_as: str) -> None:
    assert owner_for(person, filed_as) is None


given_names = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=8)


suffixes_and_titles = {"jr", "sr", "ii", "iii", "iv", "junior", "senior", "mr", "mrs", "ms", "dr"} | {
    *("prof", "sir", "esq", "md", "phd", "cpa", "cfa", "mba")
}
plain_words = given_names.filter(lambda word: word not in suffixes_and_titles)


@given(asked=plain_words, filed_name=plain_words, middle=plain_words)
def test_a_different_first_name_is_never_the_same_person(asked: str, filed_name: str, middle: str) -> None:
    different = not filed_name.startswith(asked) and not asked.startswith(filed_name) and asked != filed_name + middle
    for name in (f"QUELLHAVEN {filed_name}", f"QUELLHAVEN {filed_name} {middle}", f"{filed_name} Quellhaven"):
        owner = owner_for(f"{asked} Quellhaven", name)
        assert owner is None or not different


@given(st.lists(plain_words, min_size=2, max_size=4), st.sampled_from(["", " JR", " III"]))
def test_a_name_in_sec_order_is_always_the_same_person(words: list[str], suffix: str) -> None:
    given_name, *middle, surname = words
    filed_as = " ".join([surname, given_name, *middle]).upper() + suffix
    assert owner_for(" ".join(words), filed_as) == filed_as


def test_a_nickname_is_found_when_the_caller_knows_it() -> None:
    form4 = named("SMITH ROBERT A")
    bobs = frozenset({"bob", "robert"})

    def same_name(one: str, other: str) -> bool:
        return same_given_name(one, other) or {one, other} == bobs

    assert owned_by(form4, "Bob Smith") is None
    assert owned_by(form4, "Bob Smith", same_name) == form4.owners[0]
    assert owned_by(form4, "Rob Smith", same_name) is None


def test_of_two_owners_who_could_be_the_person_the_exact_one_is_taken_and_else_none() -> None:
    assert owner_for("Harold Burns", "BURNS HAROLD", "BURNS HAROLD JR") == "BURNS HAROLD"
    assert owner_for("Harold Burns Jr", "BURNS HAROLD", "BURNS HAROLD JR") == "BURNS HAROLD JR"
    assert owner_for("Harold Burns", "BURNS HAROLD A", "BURNS HAROLD JR") is None


# --- amendments -----------------------------------------------------------------------------------------------------

BIG, SMALL, LATE = a_line("S", "500", "20"), a_line("S", "70", "21"), a_line("S", "30", "22")


def an_amendment(*lines: str, original: str | None = "2026-09-03", **more: Any) -> bytes:
    return a_document(*lines, kind="4/A", original=original, **more)


def test_an_amendment_takes_the_place_of_its_original() -> None:
    original = filed("0001-26-000001", "2026-09-03", a_document(BIG, SMALL))
    amendment = filed("0001-26-000002", "2026-09-10", an_amendment(BIG, LATE))
    settled = settle_amendments([amendment, original])
    assert settled.kept == (amendment,)
    assert settled.superseded == {"0001-26-000001": "0001-26-000002"}
    assert settled.unclear == {}
    sold = summary_of(original, amendment)["sold"]
    assert sold == {"lines": 2, "shares": "530", "value": "10660", "lines_without_value": 0}


def test_an_amendment_without_a_date_is_linked_by_period() -> None:
    original = filed("1", "2026-09-03", a_document(BIG))
    assert settle_amendments([original, filed("2", "2026-09-10", an_amendment(BIG, original=None))]).superseded == {
        "1": "2"
    }
    elsewhen = filed("2", "2026-09-10", an_amendment(BIG, original=None, period="2026-08-01"))
    assert settle_amendments([original, elsewhen]).superseded == {}


def test_an_amendment_dated_by_the_trade_is_still_linked() -> None:
    original = filed("1", "2026-09-03", a_document(BIG))
    assert settle_amendments([original, filed("2", "2026-09-10", an_amendment(BIG, original="2026-09-01"))]).superseded


def test_the_newest_of_several_amendments_wins() -> None:
    original = filed("1", "2026-09-03", a_document(BIG, SMALL))
    first = filed("2", "2026-09-10", an_amendment(BIG, LATE))
    second = filed("3", "2026-09-12", an_amendment(LATE))
    settled = settle_amendments([second, original, first])
    assert settled.kept == (second,)
    assert settled.superseded == {"1": "3", "2": "3"}


def test_an_amendment_filed_on_the_day_of_its_original_wins_whatever_its_number() -> None:
    original = filed("9", "2026-09-03", a_document(BIG))
    assert settle_amendments([filed("1", "2026-09-03", an_amendment(BIG)), original]).superseded == {"9": "1"}


def test_an_amendment_that_only_adds_lines_is_kept_beside_its_original_and_marked_unclear() -> None:
    original, addition = filed("1", "2026-09-03", a_document(BIG)), filed("2", "2026-09-10", an_amendment(LATE))
    settled = settle_amendments([original, addition])
    assert settled.kept == (original, addition)
    assert settled.unclear == {"2": ("1",)}


def test_a_restatement_replaces_both_the_original_and_what_was_added_to_it() -> None:
    original, addition = filed("1", "2026-09-03", a_document(BIG)), filed("2", "2026-09-10", an_amendment(LATE))
    whole = filed("3", "2026-09-15", an_amendment(BIG, LATE))
    settled = settle_amendments([original, addition, whole])
    assert settled.superseded == {"1": "3", "2": "3"}
    assert settled.unclear == {}


def test_amending_one_part_of_a_split_filing_leaves_the_other_part_alone() -> None:
    lot = a_line("S", "100", "20")
    one, two = filed("1", "2026-09-03", a_document(BIG, lot)), filed("2", "2026-09-03", a_document(SMALL, lot))
    settled = settle_amendments([one, two, filed("3", "2026-09-10", an_amendment(SMALL, lot, LATE))])
    assert settled.superseded == {"2": "3"}


def test_another_owner_or_another_company_is_never_superseded() -> None:
    amendment = filed("2", "2026-09-10", an_amendment(BIG))
    stranger = filed("1", "2026-09-03", a_document(BIG, owners=(("0001999009", "QUELL TOVE"),)))
    company = filed("0", "2026-09-03", a_document(BIG).replace(ISSUER.encode(), b"0001843211"))
    assert settle_amendments([stranger, company, amendment]).superseded == {}


def test_the_same_filing_found_twice_counts_once() -> None:
    original = filed("1", "2026-09-03", a_document(BIG))
    assert settle_amendments([original, original]).kept == (original,)


@pytest.mark.parametrize("sample", samples("form4"))
def test_a_real_filing_is_superseded_by_its_own_amendment(sample: dict[str, Any]) -> None:
    form4 = read_form4((SAMPLES / sample["file"]).read_bytes())
    first, again = Filed("1", dt.date(2026, 9, 3), "4", form4), Filed("2", dt.date(2026, 9, 4), "4/A", form4)
    settled = settle_amendments([again, first])
    assert len(settled.kept) == (1 if form4.transactions else 2)
    assert settled.unclear == {}


@st.composite
def histories(draw: st.DrawFn) -> list[Filed]:
    shapes = st.tuples(
        st.sampled_from(["2026-09-03", "2026-09-04", "2026-09-10"]),
        st.lists(st.sampled_from([BIG, SMALL, LATE]), max_size=3),
        st.sampled_from([None, "2026-09-03", "2026-09-04", "2026-09-01"]),
        st.booleans(),
        st.sampled_from([(INES,), (INES, ("0001999002", "LIND TOVE"))]),
    )
    return [
        filed(f"{number}", day, a_document(*lines, kind="4/A" if amends else "4", original=original, owners=owners))
        for number, (day, lines, original, amends, owners) in enumerate(draw(st.lists(shapes, max_size=6)))
    ]


@given(data=st.data(), history=histories())
def test_settling_does_not_depend_on_the_order_of_the_filings(data: st.DataObject, history: list[Filed]) -> None:
    settled = settle_amendments(history)
    shuffled = data.draw(st.permutations(history))
    assert settle_amendments(shuffled) == settled
    one, other = (
        insider_summary(filings, owner_cik=INES[0], issuer_cik=ISSUER)
        for filings in (settled.kept, data.draw(st.permutations(settled.kept)))
    )
    assert one == other


@given(histories())
def test_every_filing_is_kept_or_superseded_by_a_kept_amendment(history: list[Filed]) -> None:
    settled = settle_amendments(history)
    kept = {filing.accession: filing for filing in settled.kept}
    assert sorted([*kept, *settled.superseded]) == sorted(filing.accession for filing in history)
    assert all(kept[standing].is_amendment for standing in settled.superseded.values())
    assert all(kept[amendment].is_amendment for amendment in settled.unclear)
    assert kept.keys() >= {accession for doubted in settled.unclear.values() for accession in doubted}
    originals = [filing for filing in history if not filing.is_amendment]
    assert settle_amendments(originals).superseded == {}


# --- the summary ----------------------------------------------------------------------------------------------------


def test_the_summary_adds_open_market_trades_only() -> None:
    document = a_document(
        a_line("P", "100", "10"),
        a_line("S", "40", "12.5"),
        a_line("A", "1000", "0"),
        a_line("F", "5", "12"),
        a_line("P", "7", "1", table="derivative"),
    )
    summary = summary_of(filed("1", "2026-09-03", document))
    assert summary["bought"] == {"lines": 1, "shares": "100", "value": "1000", "lines_without_value": 0}
    assert summary["sold"] == {"lines": 1, "shares": "40", "value": "500", "lines_without_value": 0}
    assert len(summary["transactions"]) == 5
    assert json.loads(json.dumps(summary)) == summary


def test_joint_owners_do_not_multiply_what_was_bought() -> None:
    owners = (INES, ("0001999002", "LIND TOVE"), ("0001999003", "LIND CAPITAL LLC"))
    assert summary_of(filed("1", "2026-09-03", a_document(a_line("P"), owners=owners)))["bought"]["shares"] == "100"


def test_an_unknown_price_is_never_a_zero() -> None:
    unknown, known = a_line("P", "100", None), a_line("P", "10", "3")
    assert summary_of(filed("1", "2026-09-03", a_document(unknown)))["bought"] == {
        "lines": 1,
        "shares": "100",
        "value": None,
        "lines_without_value": 1,
    }
    both = summary_of(filed("1", "2026-09-03", a_document(unknown, known)))
    assert (both["bought"]["value"], both["bought"]["lines_without_value"]) == ("30", 1)
    assert both["transactions"][0]["price_note"] == "The price is a weighted average."


def test_nothing_traded_is_a_zero() -> None:
    summary = summary_of(filed("1", "2026-09-03", a_document()))
    assert summary["bought"] == {"lines": 0, "shares": "0", "value": "0", "lines_without_value": 0}


def test_a_purchase_marked_as_disposed_of_is_shown_and_not_added() -> None:
    summary = summary_of(filed("1", "2026-09-03", a_document(a_line("P", way="D"), a_line("S", way="A"))))
    assert (summary["bought"]["lines"], summary["sold"]["lines"]) == (0, 0)
    assert [line["code"] for line in summary["contradictory"]] == ["P", "S"]


def test_a_title_in_the_remarks_is_found_there() -> None:
    document = a_document(title="See Remarks", remarks="Title: Head of Robots")
    assert summary_of(filed("1", "2026-09-03", document))["officer_title"] == "Head of Robots"
    assert summary_of(filed("1", "2026-09-03", a_document(title="See Remarks")))["officer_title"] == "See Remarks"


def test_the_role_is_that_of_the_newest_filing() -> None:
    older = filed("1", "2026-09-03", a_document(title="Engineer"))
    newer = filed("2", "2026-10-03", a_document(title="Chief Scientist", period="2026-10-01"))
    summary = summary_of(newer, older)
    assert summary["officer_title"] == "Chief Scientist"
    assert (summary["is_director"], summary["is_officer"], summary["is_ten_percent_owner"]) == (True, True, None)


def test_a_position_is_the_newest_count_of_each_way_of_holding() -> None:
    trust = '<value>See footnote</value><footnoteId id="F1"/>'
    fund = '<value>See footnote</value><footnoteId id="F2"/>'
    notes = ("Held by the Lind Trust.", "Held by the Lind Fund.")
    september = a_document(
        a_line(following="900"),
        a_line(following="50", held="I", nature=trust),
        a_line(following="7", held="I", nature=fund),
        notes=notes,
    )
    october = a_document(a_line(date="2026-10-01", following="800"), period="2026-10-01")
    late = a_document(a_line(date="2026-08-01", following="1"), period="2026-08-01")
    summary = summary_of(
        filed("3", "2026-11-03", late), filed("2", "2026-10-03", october), filed("1", "2026-09-03", september)
    )
    held = {(row["direct_indirect"], row["nature"]): (row["shares"], row["as_of"]) for row in summary["positions"]}
    assert held == {
        ("D", None): ("800", "2026-10-01"),
        ("I", "Held by the Lind Trust."): ("50", "2026-09-01"),
        ("I", "Held by the Lind Fund."): ("7", "2026-09-01"),
    }


def test_a_holding_without_a_trade_is_a_position_too() -> None:
    holding = a_line(following="77").replace("Transaction>", "Holding>", 1).removesuffix("Transaction>") + "Holding>"
    assert summary_of(filed("1", "2026-09-03", a_document(holding)))["positions"][0]["shares"] == "77"


def test_there_is_no_summary_without_a_filing_of_this_person_in_this_company() -> None:
    filing = filed("1", "2026-09-03", a_document(BIG))
    assert insider_summary([filing], owner_cik="1", issuer_cik=ISSUER) is None
    assert insider_summary([filing], owner_cik=INES[0], issuer_cik="1") is None
    assert insider_summary([filing], owner_cik="1999001", issuer_cik="1843210") is not None  # unpadded, as in URLs


@given(histories())
def test_the_parts_of_a_summary_add_up_to_the_whole(history: list[Filed]) -> None:
    kept = settle_amendments(history).kept
    parts = [insider_summary([one], owner_cik=INES[0], issuer_cik=ISSUER) for one in kept]
    whole = insider_summary(kept, owner_cik=INES[0], issuer_cik=ISSUER)
    sold: list[Any] = [part["sold"] for part in parts if part]
    assert (whole is None) == (not kept)
    if whole:
        total: Any = whole["sold"]
        assert Decimal(total["value"]) == sum(Decimal(part["value"]) for part in sold)
        assert total["lines"] == sum(part["lines"] for part in sold)
