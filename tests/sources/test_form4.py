"""Form 4 is read to the letter."""

from __future__ import annotations

import datetime as dt
import json
import time
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import msgspec
import pytest
from form4_documents import INES, ISSUER, SAMPLES, a_document, a_line, samples
from hypothesis import example, given
from hypothesis import strategies as st

from sluiceway.sources._form4 import NotAForm4, Owner, decimal_text, read_form4
from sluiceway.sources._insiders import Filed, insider_summary, owned_by


@pytest.mark.parametrize("sample", samples("form4"))
def test_every_real_filing_reads_exactly_as_expected(sample: dict[str, Any]) -> None:
    form4 = read_form4((SAMPLES / sample["file"]).read_bytes())
    assert form4.reading() == sample["expected"]
    assert json.loads(json.dumps(form4.reading())) == sample["expected"]


@pytest.mark.parametrize("sample", samples("form4"))
def test_the_footnotes_of_every_real_price_are_kept(sample: dict[str, Any]) -> None:
    form4 = read_form4((SAMPLES / sample["file"]).read_bytes())
    for line in form4.transactions:
        assert all(form4.footnotes.get(note) for note in line.price_footnotes)


@pytest.mark.parametrize("sample", samples("form4"))
def test_no_real_filing_cut_short_is_taken_for_a_whole_one(sample: dict[str, Any]) -> None:
    document = (SAMPLES / sample["file"]).read_bytes().rstrip()
    for size in range(0, len(document) - 1, max(1, len(document) // 40)):
        with pytest.raises(NotAForm4):
            read_form4(document[:size])


@pytest.mark.parametrize("sample", samples("other"))
def test_other_ownership_forms_are_refused_by_name(sample: dict[str, Any]) -> None:
    kind = sample["expected"]["document_type"]
    with pytest.raises(NotAForm4, match=rf"^a Form {kind}, not a Form 4$"):
        read_form4((SAMPLES / sample["file"]).read_bytes())


@pytest.mark.parametrize("kind", ["3", "5", "3/A", "5/A", "144"])
def test_another_form_is_refused_by_name(kind: str) -> None:
    with pytest.raises(NotAForm4, match=f"^a Form {kind}, not a Form 4$"):
        read_form4(a_document(kind=kind))


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (b"", "an empty document"),
        (b" \n ", "an empty document"),
        (b"<!DOCTYPE html><html><br><title>SEC.gov | Request Rate Threshold Exceeded</title>", "an HTML page"),
        (b"\xef\xbb\xbf\n<HTML><body>", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "root is <Error>"),
        (b"Your request was blocked", "not whole XML"),
        (b"<SEC-DOCUMENT>0001.txt\n<TYPE>4\nplain text of 2002", "a submission without an <XML> block"),
        (b"<SEC-DOCUMENT><XML><ownershipDocument>", "cut short inside its <XML> block"),
        (b"<ownershipDocument/>", "does not say which form"),
        (a_document()[:-20], "not whole XML"),
        (a_document().replace(b"issuerCik", b"issuerKey"), "names no issuer"),
        (a_document(owners=()), "does not name its reporting owner"),
        (a_document().replace(b"rptOwnerCik", b"rptOwnerKey"), "does not name its reporting owner"),
    ],
)
def test_a_refusal_says_what_was_found(document: bytes, found: str) -> None:
    with pytest.raises(NotAForm4, match=found):
        read_form4(document)


def test_a_full_submission_reads_like_the_xml_inside_it() -> None:
    xml = a_document(a_line())
    submission = b"<SEC-DOCUMENT>0001999001-26-000004.txt\n<TYPE>4\n<TEXT>\n<XML>\n" + xml + b"\n</XML>\n</TEXT>\n"
    exhibit = b"<DOCUMENT><TYPE>EX-99<TEXT><XML><other/></XML></TEXT></DOCUMENT>"
    assert read_form4(submission + exhibit) == read_form4(xml)


def test_a_zone_on_a_date_does_not_move_the_day() -> None:
    form4 = read_form4(a_document(a_line(date="2024-07-19-05:00"), period="2024-07-19+09:00"))
    assert form4.period == form4.transactions[0].date == dt.date(2024, 7, 19)


def test_a_price_that_is_only_a_footnote_is_unknown_and_the_footnote_is_kept() -> None:
    form4 = read_form4(a_document(a_line("P", price=None)))
    line = form4.transactions[0]
    assert (line.price, line.value) == (None, None)
    assert form4.price_note(line) == "The price is a weighted average."
    assert form4.totals_by_code()["P"]["lines_without_price"] == 1


def test_a_price_of_zero_is_known() -> None:
    line = read_form4(a_document(a_line("A", price="0.00"))).transactions[0]
    assert line.value == 0
    assert line.reading()["price"] == 0


@pytest.mark.parametrize("cell", ["n/a", "NaN", "1e9", "Infinity", "--", "1" * 25, "٣"])
def test_a_cell_that_holds_no_plain_number_is_unknown(cell: str) -> None:
    assert read_form4(a_document(a_line(price=cell))).transactions[0].price is None


@pytest.mark.parametrize("cell", ["2026-13-01", "soon", "0000-00-00"])
def test_a_cell_that_holds_no_date_is_unknown(cell: str) -> None:
    assert read_form4(a_document(a_line(date=cell))).transactions[0].date is None


def test_thousands_commas_are_read_over() -> None:
    assert read_form4(a_document(a_line(shares="1,234,567.50"))).transactions[0].shares == Decimal("1234567.5")


def test_a_value_is_exact_whatever_the_callers_decimal_context() -> None:
    form4 = read_form4(a_document(a_line(shares="123456789.123456", price="98765.4321")))
    with localcontext(prec=3):
        value, total = form4.transactions[0].value, form4.totals_by_code()["S"]["value"]
    assert value is not None
    assert value == total
    assert Fraction(value) == Fraction("123456789.123456") * Fraction("98765.4321")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=-(10**12), max_value=10**12))
@example(Decimal("0.0000001"))
@example(Decimal("1E+3"))
@example(Decimal("-0.00"))
def test_a_number_is_written_without_exponent_or_trailing_zeros_and_reads_back(number: Decimal) -> None:
    text = decimal_text(number)
    assert Decimal(text) == number
    assert "E" not in text
    assert not ("." in text and text.endswith(("0", ".")))


def test_joint_owners_do_not_multiply_transactions() -> None:
    owners = (INES, ("0001999002", "LIND HOLDINGS LLC"), ("0001999003", "LIND FAMILY TRUST"))
    alone, jointly = a_document(a_line("P")), a_document(a_line("P"), owners=owners)
    assert read_form4(jointly).transactions == read_form4(alone).transactions


# --- hostile documents ----------------------------------------------------------------------------------------------


def with_doctype(doctype: str, remarks: str) -> bytes:
    body = a_document(a_line(), remarks=remarks).decode().removeprefix('<?xml version="1.0"?>')
    return f'<?xml version="1.0"?>{doctype}{body}'.encode()


def test_an_external_entity_is_refused_and_its_file_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the password")
    doctype = f'<!DOCTYPE ownershipDocument [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    with pytest.raises(NotAForm4) as refusal:
        read_form4(with_doctype(doctype, "&x;"))
    assert "password" not in str(refusal.value)


def test_an_external_dtd_is_refused() -> None:
    with pytest.raises(NotAForm4, match="DOCTYPE"):
        read_form4(with_doctype('<!DOCTYPE ownershipDocument SYSTEM "http://127.0.0.1:9/x.dtd">', ""))


@pytest.mark.parametrize("place", ["text", "attribute"])
def test_a_billion_laughs_are_refused_at_once(place: str) -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 30))
    doctype = f'<!DOCTYPE ownershipDocument [<!ENTITY l0 "ha">{entities}]>'
    remarks = "&l29;" if place == "text" else '<x a="&l29;"/>'
    started = time.perf_counter()
    with pytest.raises(NotAForm4):
        read_form4(with_doctype(doctype, remarks))
    assert time.perf_counter() - started < 2


@given(st.binary(max_size=400))
@example(b"<?xml version='1.0' encoding='utf-7'?><a/>")
@example(b"<?xml version='1.0' encoding='\xff'?><a/>")
@example("<ownershipDocument/>".encode("utf-16"))
@example(b"<" * 300)
@example(b"<a>" * 3000)
def test_arbitrary_bytes_are_refused_and_nothing_else(document: bytes) -> None:
    with pytest.raises(NotAForm4):
        read_form4(document)


@given(data=st.data())
def test_a_damaged_filing_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    document = a_document(a_line(), a_line("M", table="derivative"), kind="4/A", original="2026-08-01")
    start = data.draw(st.integers(0, len(document)))
    end = data.draw(st.integers(start, min(len(document), start + 60)))
    damaged = document[:start] + data.draw(st.binary(max_size=20)) + document[end:]
    try:
        form4 = read_form4(damaged)
    except NotAForm4:
        return
    json.dumps(form4.reading())
    owned_by(form4, "Ines Okafor-Lind")


@given(st.dictionaries(st.sampled_from(["10.5", "2026-09-01", "Common Stock", "900", "OKAFOR-LIND INES M"]), st.text()))
def test_any_text_in_any_cell_is_read_as_stated_or_as_unknown(cells: dict[str, str]) -> None:
    document = a_document(a_line("P"), a_line("M", table="derivative")).decode()
    for cell, text in cells.items():
        document = document.replace(f">{cell}<", f">{escape(text)}<")
    try:
        form4 = read_form4(document.encode("utf-8", "replace"))
    except NotAForm4:  # XML forbids most control characters
        return
    json.dumps(form4.reading())
    insider_summary([Filed("1", dt.date(2026, 9, 3), "4", form4)], owner_cik=INES[0], issuer_cik=ISSUER)


def test_what_was_read_cannot_be_changed() -> None:
    form4 = read_form4(a_document(a_line()))
    with pytest.raises(AttributeError):
        form4.owners[0].name = "Somebody Else"  # type: ignore[misc]
    assert isinstance(form4.owners[0], Owner)
    assert msgspec.structs.replace(form4, remarks="x") != form4
