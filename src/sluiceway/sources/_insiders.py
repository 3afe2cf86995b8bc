"""What an insider did: whose filing it is, which filings still stand, and what they add up to. No I/O.

``owned_by`` says which owner of a Form 4 is our person (``likeliest``, which of any names), ``settle_amendments`` which
filings still stand, and ``insider_summary`` what the person did in one company's securities.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import msgspec

from sluiceway.sources._form4 import Form4, Holding, Owner, Transaction, as_json_types, ten_digits, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from decimal import Decimal

T = TypeVar("T")

# --- whose filing it is ---------------------------------------------------------------------------------------------

# Letters that Unicode does not take apart into a base letter and an accent.
_PLAIN_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "þ": "th", "æ": "ae", "œ": "oe"})
_WORD = re.compile(r"\w+")
_JOINERS = re.compile(r"[-\u2010-\u2015'\u2018\u2019\u02bc`]")
_GENERATIONS = {"jr": "jr", "junior": "jr", "sr": "sr", "senior": "sr", "ii": "ii", "iii": "iii", "iv": "iv"}
_HONORIFICS = frozenset({"mr", "mrs", "ms", "dr", "prof", "sir", "esq", "md", "phd", "cpa", "cfa", "mba"})
_ENTITY_WORDS = frozenset(
    "trust foundation fund funds llc llp lllp lp ltd limited inc corp corporation company co partners partnership "
    "holdings capital ventures management gp plc sa ag gmbh bv nv estate family association bank group".split()
)
# Nobody's name is longer; an owner that is will be an entity, and trying every reading of it would be slow.
_MOST_WORDS = 8


class _Reading(msgspec.Struct, frozen=True):
    """One way of taking a name apart."""

    given: str
    middle: tuple[str, ...]
    surname: str


def same_given_name(one: str, other: str) -> bool:
    """True for equal given names, and for an initial beside a name it could stand for."""
    one, other = one.casefold(), other.casefold()
    return one == other or (1 in {len(one), len(other)} and one[:1] == other[:1])


def owned_by(form4: Form4, person_name: str, same_name: Callable[[str, str], bool] = same_given_name) -> Owner | None:
    """Find the reporting owner that is this person, or None when none is, or when two could be.

    ``person_name`` is written ``First Middle Last`` or ``Last, First``; the SEC writes ``LAST FIRST MIDDLE`` and
    sometimes ``First Last``. Surnames must agree, and given names by ``same_name`` (which gets them in lower case,
    without accents; pass one that knows nicknames, building on ``same_given_name``). Middle names and suffixes may
    be missing on either side but must not contradict.
    """
    certain = likeliest(person_name, ((owner, owner.name) for owner in form4.owners), same_name)
    return certain[0] if len(certain) == 1 else None


def likeliest(
    person_name: str, named: Iterable[tuple[T, str]], same_name: Callable[[str, str], bool] = same_given_name
) -> list[T]:
    """Choose, of things with a name as the SEC writes it, those that can be this person's.

    Where some are written exactly like the person's name, only those are chosen. Names are compared as by `owned_by`.
    """
    matches = [(thing, name) for thing, name in named if _same_person(person_name, name, same_name)]
    exact = [thing for thing, name in matches if _bag(name) == _bag(person_name)]
    return exact or [thing for thing, _ in matches]


def _same_person(asked: str, filed: str, same_name: Callable[[str, str], bool]) -> bool:
    asked_words, filed_words = _words(_natural_order(asked)), _words(filed)
    if _is_entity(filed, asked) or _generations_differ(asked, filed):
        return False
    if max(len(asked_words), len(filed_words)) > _MOST_WORDS:
        return False
    return any(
        _readings_agree(one, other, same_name)
        for one in _given_first(asked_words)
        for other in (*_surname_first(filed_words), *_given_first(filed_words))
    )


def _readings_agree(asked: _Reading, filed: _Reading, same_name: Callable[[str, str], bool]) -> bool:
    return (
        asked.surname == filed.surname
        and same_name(asked.given, filed.given)
        and _middles_agree(asked.middle, filed.middle)
    )


def _middles_agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    fewer, more = sorted((one, other), key=len)
    return all(any(same_given_name(middle, candidate) for candidate in more) for middle in fewer)


def _given_first(words: Sequence[str]) -> Iterator[_Reading]:
    for given in range(1, len(words)):
        for surname in range(given, len(words)):
            yield _Reading("".join(words[:given]), tuple(words[given:surname]), "".join(words[surname:]))


def _surname_first(words: Sequence[str]) -> Iterator[_Reading]:
    # Words are joined because one filer writes "O BRIEN", another "O'Brien"; both become "obrien".
    for surname in range(1, len(words)):
        for given in range(surname + 1, len(words) + 1):
            yield _Reading("".join(words[surname:given]), tuple(words[given:]), "".join(words[:surname]))


def _natural_order(name: str) -> str:
    last, _, first = name.partition(",")
    return f"{first} {last}" if _words(first) else name


def _words(name: str) -> list[str]:
    return [word for word in _all_words(name) if word not in _GENERATIONS and word not in _HONORIFICS]


@lru_cache(maxsize=4096)
def _all_words(name: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(_JOINERS.sub("", _fold(name)).replace("_", " ")))


def _fold(name: str) -> str:
    if name.isascii():
        return name.casefold()
    letters = unicodedata.normalize("NFKD", name.casefold()).translate(_PLAIN_LETTERS)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _bag(name: str) -> Counter[str]:
    return Counter(_words(name)) + Counter(_generations(name))


def _is_entity(filed: str, asked: str) -> bool:
    return bool(_ENTITY_WORDS & set(_all_words(filed.replace(".", ""))) - set(_all_words(asked)))


def _generations(name: str) -> set[str]:
    return {_GENERATIONS[word] for word in _all_words(name) if word in _GENERATIONS}


def _generations_differ(asked: str, filed: str) -> bool:
    # A father and a son may both report; "Jr" beside nothing is the same person, "Jr" beside "Sr" is not.
    one, other = _generations(asked), _generations(filed)
    return bool(one and other and one != other)


# --- which filings still stand --------------------------------------------------------------------------------------


class Filed(msgspec.Struct, frozen=True):
    """A Form 4 with where it stands in EDGAR; ``form`` is ``4`` or ``4/A`` as the index gives it."""

    accession: str
    filing_date: dt.date
    form: str
    form4: Form4

    @property
    def is_amendment(self) -> bool:
        """True for a 4/A."""
        return self.form.endswith("/A")


class Settled(msgspec.Struct, frozen=True):
    """Which filings count.

    ``kept`` is oldest first. ``superseded`` maps the accession of each filing that no longer counts to the one that
    stands in its place. ``unclear`` maps a kept amendment that repeats no line of anything it could amend to those
    filings: all count, since it may only add lines, but where it corrected a number the trade is counted twice.
    """

    kept: tuple[Filed, ...]
    superseded: dict[str, str]
    unclear: dict[str, tuple[str, ...]]


def settle_amendments(filings: Iterable[Filed]) -> Settled:
    """Let each amendment take the place of what it amends, whatever order the filings come in.

    Pass one person's filings. An accession number given twice counts once. A 4/A names its original only by date,
    so it is linked by issuer, owner and that date, and then by the lines both share.
    """
    reports: _Reports = {}
    doubts: dict[str, list[str]] = {}
    for filed in sorted({filed.accession: filed for filed in filings}.values(), key=_order):
        candidates = _amendable(filed, reports) if filed.is_amendment else {}
        amended = _amended(filed, candidates)
        if not amended:
            doubts[filed.accession] = [standing for standing, versions in candidates.items() if _trades(versions[-1])]
        earlier = [version for standing in amended for version in reports.pop(standing)]
        reports[filed.accession] = (*earlier, filed)
    return _settled(reports, doubts)


# The versions of one report, oldest first, under the accession of the one that stands.
_Reports = dict[str, tuple["Filed", ...]]


def _settled(reports: _Reports, doubts: dict[str, list[str]]) -> Settled:
    stands = {version.accession: standing for standing, versions in reports.items() for version in versions}
    return Settled(
        kept=tuple(sorted((versions[-1] for versions in reports.values()), key=_order)),
        superseded={old: standing for old, standing in stands.items() if old != standing},
        unclear={
            amendment: tuple(sorted({stands[doubt] for doubt in doubted}))
            for amendment, doubted in doubts.items()
            if doubted and stands[amendment] == amendment
        },
    )


def _order(filed: Filed) -> tuple[dt.date, bool, str]:
    # An original and its amendment may be filed on one day, and accession numbers of two agents do not compare.
    return filed.filing_date, filed.is_amendment, filed.accession


def _amendable(amendment: Filed, reports: _Reports) -> _Reports:
    related = {key: report for key, report in reports.items() if _shares_an_owner(amendment.form4, report[-1].form4)}
    dated = {key: report for key, report in related.items() if any(_named_by_date(amendment, old) for old in report)}
    # Filers leave the date out or put the day of the trade there; the period of report is then the only link.
    return dated or {key: report for key, report in related.items() if _same_period(amendment, report)}


def _shares_an_owner(one: Form4, other: Form4) -> bool:
    owners = {owner.cik for owner in one.owners}
    return one.issuer.cik == other.issuer.cik and any(owner.cik in owners for owner in other.owners)


def _named_by_date(amendment: Filed, earlier: Filed) -> bool:
    named = amendment.form4.date_of_original_submission
    # A second amendment usually names the first filing of all, which we may not have, not the first amendment.
    names = {earlier.filing_date, earlier.form4.date_of_original_submission}
    return named is not None and named in names


def _same_period(amendment: Filed, report: tuple[Filed, ...]) -> bool:
    period = amendment.form4.period
    return period is not None and any(version.form4.period == period for version in report)


def _amended(amendment: Filed, candidates: _Reports) -> list[str]:
    """The reports this amendment replaces: the one it repeats most of, and any the rest of it repeats whole."""
    # Long lists of trades are split over filings of one day, and lots of 100 shares recur in them: one line in
    # common does not make a filing the amended one. A restatement, though, also replaces what only added lines.
    best = max(candidates, key=lambda key: _likeness(amendment, candidates[key]), default=None)
    if best is None or not _likeness(amendment, candidates[best])[0]:
        return []
    rest, amended = _trades(amendment) - _trades(candidates[best][-1]), [best]
    for key, report in candidates.items():
        added = _trades(report[-1])
        if key != best and added and added <= rest:
            rest -= added
            amended.append(key)
    return amended


def _likeness(amendment: Filed, report: tuple[Filed, ...]) -> tuple[int, int]:
    ours = _trades(amendment)
    return max(((ours & theirs).total(), -abs(ours.total() - theirs.total())) for theirs in map(_trades, report))


def _trades(filed: Filed) -> Counter[tuple[object, ...]]:
    lines = filed.form4.transactions
    return Counter((line.date, line.code, (line.security or "").casefold(), line.shares) for line in lines)


# --- what the person did --------------------------------------------------------------------------------------------

_Row = TypeVar("_Row", bound=Holding)


def insider_summary(kept: Iterable[Filed], *, owner_cik: str, issuer_cik: str) -> dict[str, object] | None:
    """Sum up one person's trades in one company's securities, as JSON types; None when no filing names both.

    ``bought`` and ``sold`` hold open-market trades only (codes P and S outside the derivative table). Their ``value``
    adds the lines whose value is known, is None when none is, and ``lines_without_value`` counts the rest. A purchase
    marked as disposed of, or a sale as acquired, is in ``contradictory`` and in neither sum. Role and title are those
    of the newest filing; ``positions`` are the newest share counts per security and way of holding.
    """
    roles = [(filed, owner) for filed in sorted(kept, key=_order) if (owner := _role(filed, owner_cik, issuer_cik))]
    if not roles:
        return None
    filings = [filed for filed, _ in roles]
    dated = _by_day((filed, line) for filed in filings for line in filed.form4.transactions)
    lines = [line for _, line in dated]
    summary = _standing(*roles[-1]) | {
        "filings": [filed.accession for filed in filings],
        "bought": _open_market(lines, "P", "A"),
        "sold": _open_market(lines, "S", "D"),
        "contradictory": [_trade(filed, line) for filed, line in dated if _contradicts_itself(line)],
        "positions": _positions(filings),
        "transactions": [_trade(filed, line) for filed, line in dated],
    }
    return {name: as_json_types(value) for name, value in summary.items()}


def _role(filed: Filed, owner_cik: str, issuer_cik: str) -> Owner | None:
    return filed.form4.owner(owner_cik) if filed.form4.issuer.cik == ten_digits(issuer_cik) else None


def _standing(filed: Filed, owner: Owner) -> dict[str, object]:
    return {
        "issuer": filed.form4.issuer,
        "owner": {"cik": owner.cik, "name": owner.name},
        "is_director": owner.is_director,
        "is_officer": owner.is_officer,
        "is_ten_percent_owner": owner.is_ten_percent_owner,
        "officer_title": filed.form4.officer_title(owner),
    }


def _by_day(lines: Iterable[tuple[Filed, _Row]]) -> list[tuple[Filed, _Row]]:
    # Stable: lines of one day keep the order of their filings, and within a filing the order on the page.
    return sorted(lines, key=lambda pair: _as_of(*pair))


def _as_of(filed: Filed, line: Holding) -> dt.date:
    traded = line.date if isinstance(line, Transaction) else None
    return traded or filed.form4.period or filed.filing_date


def _trade(filed: Filed, line: Transaction) -> dict[str, object]:
    trade = {name: getattr(line, name) for name in _TRADE_KEYS}
    return trade | {"price_note": filed.form4.price_note(line), "accession": filed.accession}


_TRADE_KEYS = ("date", "code", "acquired_disposed", "security", "shares", "price", "value", "table")


def _open_market(lines: Iterable[Transaction], code: str, direction: str) -> dict[str, object]:
    counted = [line for line in lines if _is_open_market(line, code) and line.acquired_disposed in {direction, None}]
    return {
        "lines": len(counted),
        "shares": _known_total(line.shares for line in counted),
        "value": _known_total(line.value for line in counted),
        "lines_without_value": sum(line.value is None for line in counted),
    }


def _known_total(numbers: Iterable[Decimal | None]) -> Decimal | None:
    stated = list(numbers)
    known = [number for number in stated if number is not None]
    return None if stated and not known else total(known)


def _is_open_market(line: Transaction, code: str) -> bool:
    return line.table == "non_derivative" and line.code == code


def _contradicts_itself(line: Transaction) -> bool:
    return (_is_open_market(line, "P") and line.acquired_disposed == "D") or (
        _is_open_market(line, "S") and line.acquired_disposed == "A"
    )


def _positions(filings: Sequence[Filed]) -> list[dict[str, object]]:
    rows: Iterable[tuple[Filed, Holding]] = (
        (filed, row) for filed in filings for row in (*filed.form4.transactions, *filed.form4.holdings)
    )
    newest: dict[tuple[str, ...], dict[str, object]] = {}
    for filed, row in _by_day(rows):
        if row.shares_following is not None:
            newest[_position_key(filed.form4, row)] = _position(filed, row)
    return list(newest.values())


def _position_key(form4: Form4, row: Holding) -> tuple[str, ...]:
    # Two trusts hold two positions, though both are "indirect"; a direct position is one whatever its footnotes say.
    through = "" if row.direct_indirect == "D" else form4.nature(row) or ""
    return tuple(part.casefold() for part in (row.table, row.security or "", row.direct_indirect or "", through))


def _position(filed: Filed, row: Holding) -> dict[str, object]:
    return {
        "table": row.table,
        "security": row.security,
        "direct_indirect": row.direct_indirect,
        "nature": filed.form4.nature(row),
        "shares": row.shares_following,
        "as_of": _as_of(filed, row),
        "accession": filed.accession,
    }
