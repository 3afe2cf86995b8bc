"""What one Form 4 says, to the letter. No I/O.

The wire format is the SEC's ownership XML (root ``ownershipDocument``, schemas X0206 to X0609). ``read_form4`` reads
one document; whose it is, and what several add up to, is in ``_insiders``. Numbers are ``Decimal`` or ``None``: a
price that is only a footnote is unknown, never zero.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Context, Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from lxml import etree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lxml.etree import _Element

Table = Literal["non_derivative", "derivative"]

# Python's default context rounds at 28 digits and any caller may change it; money must not depend on that.
# _NUMBER admits 24 digits either side of the point, so a product needs at most 96.
_EXACT = Context(prec=120)
_NUMBER = re.compile(r"[+-]?(\d{1,24}(\.\d{0,24})?|\.\d{1,24})", re.ASCII)
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


class NotAForm4(ValueError):  # noqa: N818 - named for what was found, not for being an error
    """The document is something other than a readable Form 4; the message says what was found."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}, not a Form 4")
        self.found = found


class NotWhole(NotAForm4):
    """The document is not whole, or no document at all, so it may read better when it is fetched again."""


# --- what a filing says ---------------------------------------------------------------------------------------------


class Issuer(msgspec.Struct, frozen=True):
    """The company whose securities were traded. Use the CIK as the key: tickers may be ``NONE``, blank or old."""

    cik: str
    name: str | None
    ticker: str | None


class Owner(msgspec.Struct, frozen=True):
    """A person or entity reporting the trades. A flag is ``None`` when the filer left it out."""

    cik: str
    name: str
    is_director: bool | None
    is_officer: bool | None
    is_ten_percent_owner: bool | None
    is_other: bool | None
    officer_title: str | None
    other_text: str | None


class Terms(msgspec.Struct, frozen=True):
    """What an option or other derivative converts into, at what price, and when."""

    exercise_price: Decimal | None
    exercise_date: dt.date | None
    expiration_date: dt.date | None
    underlying: str | None
    underlying_shares: Decimal | None


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Shares somebody holds, and how: directly (``D``) or through something else (``I``, see ``nature``)."""

    table: Table
    security: str | None
    shares_following: Decimal | None
    direct_indirect: str | None
    nature: str | None
    nature_footnotes: tuple[str, ...] = ()


class Transaction(Holding, frozen=True, kw_only=True):
    """One trade, and the holding it left behind."""

    date: dt.date | None
    deemed_date: dt.date | None
    code: str | None
    form: str | None
    equity_swap: bool | None
    acquired_disposed: str | None
    shares: Decimal | None
    price: Decimal | None
    total_value: Decimal | None
    price_footnotes: tuple[str, ...] = ()
    footnotes: tuple[str, ...] = ()
    terms: Terms | None = None

    @property
    def value(self) -> Decimal | None:
        """Shares times price, or None when either is not stated."""
        if self.shares is None or self.price is None:
            return None
        return _EXACT.multiply(self.shares, self.price)

    def reading(self) -> dict[str, object]:
        """This line as one flat mapping; derivative lines have the terms' keys besides."""
        line = {name: getattr(self, name) for name in _LINE_KEYS}
        line["footnotes"] = {"price": self.price_footnotes, "all": self.footnotes}
        return line | (msgspec.structs.asdict(self.terms) if self.terms else {})


_LINE_KEYS = (
    *("table", "security", "date", "deemed_date", "code", "form", "equity_swap", "acquired_disposed"),
    *("shares", "price", "value", "total_value", "shares_following", "direct_indirect", "nature"),
)


class Form4(msgspec.Struct, frozen=True, kw_only=True):
    """One Form 4 or 4/A as filed. Every owner reports the same transactions: never multiply them by owners."""

    document_type: str
    schema_version: str | None
    period: dt.date | None
    date_of_original_submission: dt.date | None
    not_subject_to_section16: bool | None
    aff10b5one: bool | None
    issuer: Issuer
    owners: tuple[Owner, ...]
    transactions: tuple[Transaction, ...]
    holdings: tuple[Holding, ...]
    footnotes: dict[str, str]
    remarks: str | None

    def owner(self, cik: str) -> Owner | None:
        """The reporting owner with this CIK, or None."""
        return next((owner for owner in self.owners if owner.cik == ten_digits(cik)), None)

    def officer_title(self, owner: Owner) -> str | None:
        """The owner's title; where the title only says "See Remarks", what the remarks say."""
        if owner.officer_title and _SEE_REMARKS.match(owner.officer_title) and self.remarks:
            return _TITLE_LABEL.sub("", self.remarks)
        return owner.officer_title

    def nature(self, holding: Holding) -> str | None:
        """How it is held; where the cell only says "See footnote", what those footnotes say."""
        texts = [self.footnotes[note] for note in holding.nature_footnotes if note in self.footnotes]
        if texts and (holding.nature is None or _SEE_FOOTNOTE.match(holding.nature)):
            return " ".join(texts)
        return holding.nature

    def price_note(self, line: Transaction) -> str | None:
        """What the footnotes on the price say (often a weighted average, or why there is no price)."""
        texts = [self.footnotes[note] for note in line.price_footnotes if note in self.footnotes]
        return " ".join(texts) or None

    def totals_by_code(self) -> dict[str, dict[str, object]]:
        """Lines, shares and known value per transaction code; derivative codes are written ``D:M``."""
        lines_by_code: dict[str, list[Transaction]] = {}
        for line in self.transactions:
            prefix = "D:" if line.table == "derivative" else ""
            lines_by_code.setdefault(f"{prefix}{line.code or '?'}", []).append(line)
        return {code: _code_total(lines) for code, lines in lines_by_code.items()}

    def reading(self) -> dict[str, object]:
        """The whole filing as JSON types: decimals as plain strings, dates as ISO 8601, unknown as None."""
        reading = {name: getattr(self, name) for name in _FILING_KEYS}
        reading |= {
            "transactions": [line.reading() for line in self.transactions],
            "holdings": {table: self._holdings_in(table) for table in ("non_derivative", "derivative")},
            "footnote_count": len(self.footnotes),
            "has_remarks": self.remarks is not None,
            "totals_by_code": self.totals_by_code(),
        }
        return {name: as_json_types(value) for name, value in reading.items()}

    def _holdings_in(self, table: str) -> int:
        return sum(holding.table == table for holding in self.holdings)


_FILING_KEYS = (
    *("document_type", "schema_version", "period", "date_of_original_submission", "not_subject_to_section16"),
    *("aff10b5one", "issuer", "owners"),
)
_SEE_REMARKS = re.compile(r"\W*(please )?see (the )?remarks?\b", re.IGNORECASE)
_SEE_FOOTNOTE = re.compile(r"\W*(please )?see (the )?foot ?notes?\b", re.IGNORECASE)
_TITLE_LABEL = re.compile(r"\A\s*(officer )?title\s*:\s*", re.IGNORECASE)


def _code_total(lines: list[Transaction]) -> dict[str, object]:
    return {
        "lines": len(lines),
        "shares": total(line.shares for line in lines),
        "value": total(line.value for line in lines),
        "lines_without_price": sum(line.price is None for line in lines),
    }


def total(numbers: Iterable[Decimal | None]) -> Decimal:
    """The exact sum of the numbers that are known."""
    return reduce(_EXACT.add, (number for number in numbers if number is not None), Decimal(0))


def as_json_types(value: object) -> object:
    """The value as JSON types: decimals as plain strings, dates as ISO 8601, structs by their fields."""
    match value:
        case Decimal():
            return decimal_text(value)
        case dt.date():
            return value.isoformat()
        case msgspec.Struct():
            return as_json_types(msgspec.structs.asdict(value))
        case dict():
            return {key: as_json_types(item) for key, item in value.items()}
        case list() | tuple():
            return [as_json_types(item) for item in value]
        case _:
            return value


def decimal_text(number: Decimal) -> str:
    """The number as a person writes it: no exponent, no trailing zeros (``51.6900`` is ``"51.69"``)."""
    if not number:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


# --- reading a document ---------------------------------------------------------------------------------------------


def read_form4(document: bytes) -> Form4:
    """Read a Form 4 or 4/A, given as its XML or as the full submission text around it.

    Raises NotAForm4 for anything else: another form, an error body; NotWhole, which is one, for a document cut short
    and for a web page.
    """
    root = _parse(_xml_of(document))
    _refuse_other_documents(root)
    filing = _cells(root, without=_LISTS)
    return Form4(
        document_type=_text(filing, "documentType") or "",
        schema_version=_text(filing, "schemaVersion"),
        period=_day(filing, "periodOfReport"),
        date_of_original_submission=_day(filing, "dateOfOriginalSubmission"),
        not_subject_to_section16=_flag(filing, "notSubjectToSection16"),
        aff10b5one=_flag(filing, "aff10b5One"),
        issuer=_issuer(filing),
        owners=tuple(map(_owner, map(_cells, root.iterfind("reportingOwner")))),
        transactions=tuple(_transactions(root)),
        holdings=tuple(_holdings(root)),
        footnotes=_footnotes(root),
        remarks=_text(filing, "remarks"),
    )


def _xml_of(document: bytes) -> bytes:
    # The ownership XML is the first document of a submission; exhibits with an <XML> block of their own come later.
    _, opened, rest = document.partition(b"<XML>")
    if not opened:
        return document.strip()
    block, closed, _ = rest.partition(b"</XML>")
    if not closed:
        raise NotWhole("a submission cut short inside its <XML> block")
    return block.strip()


def _parse(xml: bytes) -> _Element:
    if not xml:
        raise NotWhole("an empty document")
    _refuse_by_first_words(xml[:2048].removeprefix(b"\xef\xbb\xbf").lstrip().lower())
    try:
        root = etree.fromstring(xml, _safe_parser())
    except etree.XMLSyntaxError as error:
        raise NotWhole(f"a document that is not whole XML ({error.msg})") from error
    # No filing carries a DOCTYPE. One that does wants entities expanded, and what it says cannot be trusted.
    if root.getroottree().docinfo.internalDTD is not None:
        raise NotAForm4("an XML document with a DOCTYPE")
    return root


def _refuse_by_first_words(head: bytes) -> None:
    if head.startswith((b"<!doctype html", b"<html")):
        raise NotWhole("an HTML page")
    if head.startswith((b"<sec-document>", b"<submission>", b"-----begin privacy-enhanced")):
        raise NotAForm4("a submission without an <XML> block")


def _safe_parser() -> etree.XMLParser:
    return etree.XMLParser(
        no_network=True,
        resolve_entities=False,
        load_dtd=False,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )


def _refuse_other_documents(root: _Element) -> None:
    if root.tag != "ownershipDocument":
        raise NotAForm4(f"XML whose root is <{etree.QName(root).localname}>")
    kind = _clean(root.findtext("documentType"))
    if kind not in {"4", "4/A"}:
        raise NotAForm4(f"a Form {kind}" if kind else "an ownership document that does not say which form it is")
    if _clean(root.findtext("issuer/issuerCik")) is None:
        raise NotAForm4("an ownership document that names no issuer")
    owners = root.findall("reportingOwner")
    if not owners or any(_clean(owner.findtext("reportingOwnerId/rptOwnerCik")) is None for owner in owners):
        raise NotAForm4("an ownership document that does not name its reporting owner")


def _issuer(filing: _Cells) -> Issuer:
    return Issuer(
        cik=_cik(filing, "issuer/issuerCik"),
        name=_text(filing, "issuer/issuerName"),
        ticker=_text(filing, "issuer/issuerTradingSymbol"),
    )


def _owner(owner: _Cells) -> Owner:
    relationship = "reportingOwnerRelationship/"
    return Owner(
        cik=_cik(owner, "reportingOwnerId/rptOwnerCik"),
        name=_text(owner, "reportingOwnerId/rptOwnerName") or "",
        is_director=_flag(owner, relationship + "isDirector"),
        is_officer=_flag(owner, relationship + "isOfficer"),
        is_ten_percent_owner=_flag(owner, relationship + "isTenPercentOwner"),
        is_other=_flag(owner, relationship + "isOther"),
        officer_title=_text(owner, relationship + "officerTitle"),
        other_text=_text(owner, relationship + "otherText"),
    )


def _transactions(root: _Element) -> Iterator[Transaction]:
    for node in root.iterfind("nonDerivativeTable/nonDerivativeTransaction"):
        yield _transaction(node, _cells(node), "non_derivative", None)
    for node in root.iterfind("derivativeTable/derivativeTransaction"):
        row = _cells(node)
        yield _transaction(node, row, "derivative", _terms(row))


def _holdings(root: _Element) -> Iterator[Holding]:
    for node in root.iterfind("nonDerivativeTable/nonDerivativeHolding"):
        yield Holding(**_held(node, _cells(node), "non_derivative"))
    for node in root.iterfind("derivativeTable/derivativeHolding"):
        yield Holding(**_held(node, _cells(node), "derivative"))


def _held(node: _Element, row: _Cells, table: Table) -> dict[str, Any]:
    return {
        "table": table,
        "security": _text(row, "securityTitle/value"),
        "shares_following": _number(row, "postTransactionAmounts/sharesOwnedFollowingTransaction/value"),
        "direct_indirect": _text(row, "ownershipNature/directOrIndirectOwnership/value"),
        "nature": _text(row, "ownershipNature/natureOfOwnership/value"),
        "nature_footnotes": _notes(node.find("ownershipNature")),
    }


def _transaction(node: _Element, row: _Cells, table: Table, terms: Terms | None) -> Transaction:
    amounts, coding = "transactionAmounts/", "transactionCoding/"
    return Transaction(
        **_held(node, row, table),
        date=_day(row, "transactionDate/value"),
        deemed_date=_day(row, "deemedExecutionDate/value"),
        code=_text(row, coding + "transactionCode"),
        form=_text(row, coding + "transactionFormType"),
        equity_swap=_flag(row, coding + "equitySwapInvolved"),
        acquired_disposed=_text(row, amounts + "transactionAcquiredDisposedCode/value"),
        shares=_number(row, amounts + "transactionShares/value"),
        price=_number(row, amounts + "transactionPricePerShare/value"),
        total_value=_number(row, amounts + "transactionTotalValue/value"),
        price_footnotes=_notes(node.find(amounts + "transactionPricePerShare")),
        footnotes=_notes(node),
        terms=terms,
    )


def _terms(row: _Cells) -> Terms:
    return Terms(
        exercise_price=_number(row, "conversionOrExercisePrice/value"),
        exercise_date=_day(row, "exerciseDate/value"),
        expiration_date=_day(row, "expirationDate/value"),
        underlying=_text(row, "underlyingSecurity/underlyingSecurityTitle/value"),
        underlying_shares=_number(row, "underlyingSecurity/underlyingSecurityShares/value"),
    )


def _footnotes(root: _Element) -> dict[str, str]:
    notes = root.iterfind("footnotes/footnote")
    return {note.get("id", ""): " ".join("".join(map(str, note.itertext())).split()) for note in notes}


def _notes(node: _Element | None) -> tuple[str, ...]:
    """The footnote ids under a cell or row, each once, in the order a reader meets them."""
    if node is None:
        return ()
    return tuple(dict.fromkeys(mark.get("id", "") for mark in node.iter("footnoteId")))


_Cells = dict[str, "str | None"]
"""The texts below a node by their path. Looking a path up costs a tenth of what asking the XML library for it does."""

_LISTS = frozenset({"reportingOwner", "nonDerivativeTable", "derivativeTable", "footnotes"})


def _cells(node: _Element, without: frozenset[str] = frozenset()) -> _Cells:
    cells: _Cells = {}
    for child in node:
        if child.tag not in without:
            _add_cells(child, child.tag, cells)
    return cells


def _add_cells(node: _Element, path: str, cells: _Cells) -> None:
    cells.setdefault(path, node.text)  # of several nodes on one path, the first counts
    for child in node:
        _add_cells(child, f"{path}/{child.tag}", cells)


def _clean(text: str | None) -> str | None:
    return (text or "").strip() or None


def _text(cells: _Cells, path: str) -> str | None:
    return _clean(cells.get(path))


def _number(cells: _Cells, path: str) -> Decimal | None:
    # A cell that holds no plain number is unknown: guessing at one would put an invented sum in front of a person.
    text = (_text(cells, path) or "").replace(",", "")
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _day(cells: _Cells, path: str) -> dt.date | None:
    # Some filers add a zone ("2024-07-19-05:00"). It is the day they mean; shifting it to UTC could change it.
    try:
        return dt.date.fromisoformat((_text(cells, path) or "")[:10])
    except ValueError:
        return None


def _flag(cells: _Cells, path: str) -> bool | None:
    return _FLAGS.get((_text(cells, path) or "").lower())


def _cik(cells: _Cells, path: str) -> str:
    return ten_digits(_text(cells, path) or "")


def ten_digits(cik: str) -> str:
    """A CIK as the SEC writes it in most places: with its leading zeros."""
    return cik.zfill(10)
