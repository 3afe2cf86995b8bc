"""The grounding rule: a summary may contain no figure that its input does not contain.

`ungrounded` finds the figures of a text and reports those that are not in the material it was written from. Figures
are compared after this normalisation, which is the whole rule:

- **Amounts** are compared as exact numbers, never rounded: `96M`, `$96 million`, `96,000,000`, `96 000 000`, `$96.0M`,
  `EUR 96m` and the JSON number 96000000 are one figure. Currency and sign are not compared.
- **Percentages** are amounts: `12 %` and `12 percent` equal 12, and also 0.12.
- **Dates** match in any spelling (`2022-03-02`, `2 March 2022`, `Mar 2nd, 2022`, `3/2/2022` read either way). A
  coarser date is part of a finer one: `March 2022`, `2022`, `Q1 2022` and `the 2010s` are grounded by any day inside.
- **Words** are figures from two on: `seven`, `twenty-five`, `two million`, `a million`, `third`. `one`, `first` and
  `second` are not ("one of the first"), nor are vague ones (`millions`, `half`, `several`).
- **Counts**: a bare figure (no money, no percentage, no `million`) is also grounded by the length of a list.
- **Addresses**: every e-mail address must be in the material, and every web address, or one that begins with it and
  goes on with a slash; `http`, `www` and capitals are not compared. Digits inside an address are no figures.
- **Names** are no figures: digits glued to letters (`B2B`, `Web3`), and the SEC's forms and rules (`Form 4`, `10-K`).

Numbers that follow from others (sums, ages, differences) are not grounded; the prompt says so too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias


class Amount(NamedTuple):
    """A number; a bare one may be a count of things."""

    value: Decimal
    bare: bool = True


class Day(NamedTuple):
    """A date, or the part of one that was given."""

    year: int | None
    month: int
    day: int | None = None

    def covers(self, other: Day) -> bool:
        """Tell whether every part given here agrees with the other date."""
        return all(mine is None or mine == theirs for mine, theirs in zip(self, other, strict=True))


class Quarter(NamedTuple):
    """A quarter of a year, or of any year."""

    year: int | None
    number: int


class Decade(NamedTuple):
    """The ten years that begin here."""

    first: int


class Address(NamedTuple):
    """An e-mail or a web address, reduced to what its spellings share."""

    text: str


Token: TypeAlias = Amount | Day | Quarter | Decade | Address
Reading: TypeAlias = tuple[Token, ...]


class Figure(NamedTuple):
    """A figure as written, and the ways to read it; it is grounded when all parts of one reading are known."""

    at: int
    written: str
    readings: tuple[Reading, ...]


def ungrounded(text: str, material: Any) -> list[str]:
    """Return the figures of a text that its material does not contain, as written, in order.

    `material` is plain JSON: figures are looked for in its numbers, in its texts and names, and in its lists' lengths.
    """
    written = figures(text)
    if not written:
        return []
    known = Known(material)
    strange = [figure for figure in written if not known.grounds(figure) and not known.says(figure)]
    if strange:
        known.read_texts()
    return list(dict.fromkeys(figure.written for figure in strange if not known.grounds(figure)))


class Known:
    """Every figure of the material."""

    def __init__(self, material: Any) -> None:
        self._numbers: set[Decimal] = set()
        self._counts: set[int] = set()
        self._days: set[Day] = set()
        self._quarters: set[Quarter] = set()
        self._addresses: set[str] = set()
        self._texts: list[str] = []
        self._learn(material)

    def grounds(self, figure: Figure) -> bool:
        """Tell whether every part of one of the figure's readings is in the material, as far as it was read."""
        return any(map(self.all, figure.readings))

    def says(self, figure: Figure) -> bool:
        """Tell whether a text says an amount of money in these very words; other figures need a closer look."""
        if not _MONEY_IN_FULL.fullmatch(figure.written):
            return False
        return any(_stands_in(text, figure.written) for text in self._texts)

    def read_texts(self) -> None:
        """Learn what the texts hold too; most figures are among the numbers, and looking at prose is slow."""
        self._learn_text(_APART.join(self._texts))
        self._texts = []

    def all(self, reading: Reading) -> bool:
        """Tell whether every part of a reading is in the material."""
        return all(map(self._has, reading))

    def _has(self, token: Token) -> bool:
        match token:
            case Amount(value, bare):
                return value in self._numbers or (bare and value in self._counts)
            case Day():
                return any(map(token.covers, self._days))
            case Quarter(year, number):
                return any(number == known.number and year in (None, known.year) for known in self._quarters)
            case Decade(first):
                return any(Decimal(year) in self._numbers for year in range(first, first + 10))
            case Address(text):
                return any(known == text or known.startswith(f"{text}/") for known in self._addresses)

    def _learn(self, material: Any) -> None:
        """Learn the numbers and the lists' lengths, and set the texts aside."""
        texts: set[str] = set()
        left = [material]
        while left:
            match left.pop():
                case str() as text:
                    texts.add(text)
                case bool() | None:
                    pass
                case int() | float() | Decimal() as number:
                    self._numbers.add(Decimal(str(number)).copy_abs())
                case list() | tuple() as items:
                    self._counts.add(len(items))
                    left.extend(items)
                case dict() as pairs:
                    texts.update(pairs)
                    left.extend(pairs.values())
        for text in texts:
            if text[:1].isdecimal():
                self._learn_plain(text)
            else:
                self._texts.append(text)

    def _learn_plain(self, text: str) -> None:
        """Learn a text that is nothing but a number or a day, as many of a filing's are; set others aside."""
        if _PLAIN_NUMBER.fullmatch(text):
            self._numbers.add(Decimal(text))
        elif (day := _ISO.fullmatch(text)) and (readings := _written_day(day)):
            self._keep(readings[0][0])
        else:
            self._texts.append(text)

    def _learn_text(self, text: str) -> None:
        self._addresses.update(_bare(found[0]) for found in _HOST.finditer(_plain(text)))
        for figure in figures(text):
            for reading in figure.readings:
                for token in reading:
                    self._keep(token)

    def _keep(self, token: Token) -> None:
        match token:
            case Amount(value):
                self._numbers.add(value)
            case Day(year, month):
                self._days.add(token)
                self._quarters.add(Quarter(year, (month + 2) // 3))
                self._keep_year(year)
            case Quarter(year):
                self._quarters.add(token)
                self._keep_year(year)
            case Decade(first):
                self._keep_year(first)
            case Address(text):
                self._addresses.add(text)

    def _keep_year(self, year: int | None) -> None:
        if year is not None:
            self._numbers.add(Decimal(year))


def _stands_in(text: str, amount: str) -> bool:
    """Tell whether a text has these words with nothing before or after that would make them another amount."""
    at = text.find(amount)
    while at >= 0:
        if _BEGINS.match(text, at) and _ENDS.match(text, at + len(amount)):
            return True
        at = text.find(amount, at + 1)
    return False


def figures(text: str) -> list[Figure]:
    """Find every figure of a text, in order.

    Each kind of figure is looked for in what the kinds before it have left, so the parts of a date are not found
    again as numbers.
    """
    found: list[Figure] = []
    left = _plain(text)
    marks = _marks(left)
    for needs, pattern, read in _KINDS:
        if not marks.isdisjoint(needs):
            left = pattern.sub(_taker(read, found), left)
    return sorted(found, key=lambda figure: figure.at)


def _marks(text: str) -> set[str]:
    """Return what tells which kinds of figure may be in a text: its words in lower case, `@`, and `0` for any digit.

    `0-0` stands for digits on both sides of a hyphen, `0/0/0` for three groups of them with the same sign between,
    and `a million` for a scale that may have a number in words before it.
    Most kinds are missing from most texts, and looking for one that is missing costs as much as for one that is there.
    """
    lower = text.lower()
    marks = set(lower.encode("utf-8", "replace").translate(_ONLY_LETTERS).decode("ascii").split())
    if "@" in text:
        marks.add("@")
    if _ANY_DIGIT.search(text):
        marks.add("0")
        marks.update(mark for mark, sign in _AMONG_DIGITS if sign.search(text))
    if not marks.isdisjoint(_BIG) and (any(word in lower for word in (*_SMALL, *_TENS)) or _A_SCALE.search(lower)):
        marks.add("a million")
    return marks


_ONLY_LETTERS: Final = bytes(byte if byte in b"abcdefghijklmnopqrstuvwxyz" else 0x20 for byte in range(256))
_ANY_DIGIT: Final = re.compile(r"[0-9]")
_AMONG_DIGITS: Final = (("0-0", re.compile(r"\d-\d")), ("0/0/0", re.compile(r"\d([-/.])\d\d?\1\d")))


def _taker(read: Callable[[re.Match[str]], tuple[Reading, ...] | None], found: list[Figure]) -> Callable[..., str]:
    """Return a replacement that notes a figure and blanks it, or leaves alone what turns out to be none."""

    def take(match: re.Match[str]) -> str:
        readings = read(match)
        if readings is None:
            return match[0]
        if readings:
            found.append(Figure(match.start(), match[0].strip(), readings))
        return "|" * len(match[0])

    return take


def _plain(text: str) -> str:
    """Write all digits, spaces and signs the plain way: full-width digits, narrow spaces, typographic apostrophes."""
    return unicodedata.normalize("NFKC", text).replace("\u2019", "'")


# --- addresses and names ---------------------------------------------------------------------------------------------

_EMAIL: Final = re.compile(r"(?<![\w.+%-])[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
_URL: Final = re.compile(r"(?:https?://|\bwww\.)[^\s<>\"|]+", re.IGNORECASE)
_HOST: Final = re.compile(r"(?<![\w.-])[\w-]+(?:\.[\w-]+)+(?:/[^\s<>\"|]*)?", re.IGNORECASE)
_NAME: Final = re.compile(
    r"\b(?:Forms?\s+(?:3|4|5|144)\b|(?:10-[KQ]|8-K|20-F|13[DFG])\b|10b5-1\b|401\(k\))(?:/A\b)?", re.IGNORECASE
)


def _bare(address: str) -> str:
    address = address.lower().rstrip(".,;:!?)]}'").removeprefix("http://").removeprefix("https://")
    return address.removeprefix("www.").rstrip("/")


def _address(match: re.Match[str]) -> tuple[Reading, ...]:
    return ((Address(_bare(match[0])),),)


def _name(_match: re.Match[str]) -> tuple[Reading, ...]:
    return ()


# --- dates -----------------------------------------------------------------------------------------------------------

_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH: Final = (
    r"(?P<month>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_YEAR: Final = r"(?P<year>(?:1[6-9]|2[01])\d\d)(?!\d)"
_DAY: Final = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_ORDINAL_QUARTERS: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4}

_ISO: Final = re.compile(
    rf"(?<![\w.]){_YEAR}(?P<sep>[-/.])(?P<month>\d\d?)(?P=sep)(?P<day>\d\d?)(?!\d)"
    r"(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?(?!\w)"
)
_NUMERIC: Final = re.compile(r"(?<![\w.])(\d\d?)(?P<sep>[-/.])(\d\d?)(?P=sep)(\d{4}|\d\d)(?![\w/])")
_DAY_MONTH: Final = re.compile(rf"\b{_DAY}(?:\s+of)?[\s-]+{_MONTH}(?:[\s,-]+{_YEAR})?", re.IGNORECASE)
_MONTH_DAY: Final = re.compile(rf"\b{_MONTH}\s+{_DAY}(?![\d%]|[.,]\d|\s*%|\s+percent)(?:,?\s+{_YEAR})?", re.IGNORECASE)
_MONTH_YEAR: Final = re.compile(rf"\b{_MONTH},?(?:\s+of)?[\s-]+{_YEAR}", re.IGNORECASE)
_ISO_MONTH: Final = re.compile(rf"(?<![\w./-]){_YEAR}-(?P<month>0[1-9]|1[0-2])(?![\w-])")
_QUARTER: Final = re.compile(
    r"\b(?:Q(?P<number>[1-4])|(?P<word>first|second|third|fourth)[\s-]quarter)"
    r"(?:(?:\s+of)?(?:\s+fiscal)?\s*(?:FY)?\s?'?(?P<year>(?:1[6-9]|2[01])\d\d|\d\d)(?!\d))?\b",
    re.IGNORECASE,
)
_FISCAL: Final = re.compile(r"\bFY\s?'?(?P<year>(?:1[6-9]|2[01])\d\d|\d\d)\b", re.IGNORECASE)
_DECADE: Final = re.compile(r"(?<![\w.,])(?P<year>(?:1[6-9]|2[01])\d0)'?s\b")


def _full_year(written: str) -> int:
    return int(written) + (2000 if len(written) == 2 else 0)


def _is_date(year: int | None, month: int, day: int | None) -> bool:
    try:
        date(year or 2000, month, day or 1)  # 2000 is a leap year, so 29 February may go without its year
    except ValueError:
        return False
    return True


def _written_day(match: re.Match[str]) -> tuple[Reading, ...] | None:
    parts = match.groupdict()
    month = parts["month"]
    year, day = (int(parts[name]) if parts.get(name) else None for name in ("year", "day"))
    if month in ("may", "mar", "march") and year is None:  # "the top 5 may sell"
        return None
    number = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
    return ((Day(year, number, day),),) if _is_date(year, number, day) else None


def _either_way(match: re.Match[str]) -> tuple[Reading, ...] | None:
    """Read `3/2/2022` as both of the days it may be."""
    one, other, year = int(match[1]), int(match[3]), _full_year(match[4])
    orders = {(one, other), (other, one)}
    return tuple((Day(year, *order),) for order in sorted(orders) if _is_date(year, *order)) or None


def _year_and_month(match: re.Match[str]) -> tuple[Reading, ...]:
    """Read `2010-12` as December 2010, or as a range."""
    year, month = int(match["year"]), int(match["month"])
    return (Day(year, month),), (Amount(Decimal(year)), Amount(Decimal(month)))


def _quarter(match: re.Match[str]) -> tuple[Reading, ...]:
    number = int(match["number"]) if match["number"] else _ORDINAL_QUARTERS[match["word"].lower()]
    return ((Quarter(_full_year(match["year"]) if match["year"] else None, number),),)


def _year(match: re.Match[str]) -> tuple[Reading, ...]:
    return ((Amount(Decimal(_full_year(match["year"]))),),)


def _decade(match: re.Match[str]) -> tuple[Reading, ...]:
    return ((Decade(int(match["year"])),),)


# --- amounts ---------------------------------------------------------------------------------------------------------

_SCALES: Final = {
    "one": 1,
    "hundred": 10**2,
    "thousand": 10**3,
    "k": 10**3,
    "million": 10**6,
    "m": 10**6,
    "mm": 10**6,
    "mn": 10**6,
    "billion": 10**9,
    "b": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
    "t": 10**12,
    "tn": 10**12,
    "dozen": 12,
}
_SCALE_WORD: Final = r"(?:hundred|thousand|million|billion|trillion|dozen)"
_CODE: Final = r"(?:USD|EUR|GBP|CHF|JPY|CNY|CAD|AUD|INR|SEK|NOK|DKK)"
_AFTER: Final = rf"(?P<percent>\s?(?:%|percent|per\scent|pct\b))|(?P<currency>\s(?:dollars?|euros?|pounds|{_CODE})\b)"
_NUMBER: Final = re.compile(
    rf"(?<!\w)(?P<money>(?:[A-Z]{{1,3}})?[$€£¥]\s?|{_CODE}\s?)?"
    r"(?P<digits>(?P<grouped>\d{1,3}(?P<sep>[,' ])\d{3}(?:(?P=sep)\d{3})*(?!\d)(?:\.\d+)?)"
    r"|(?P<dotted>\d{1,3}(?:\.\d{3}){2,}(?!\d))"
    r"|(?P<comma>\d+,\d\d?(?!\d|,\d))"
    r"|\d+(?:\.\d+)?|\.\d+)"
    r"(?:(?:st|nd|rd|th)\b"
    r"|(?P<glued>(?i:[kmbt]|mm|mn|bn|tn))(?!\w)"
    rf"|[\s-]?(?P<scale>(?i:{_SCALE_WORD}|mm|mn|bn|tn))s?\b)?"
    rf"(?:{_AFTER})?"
)


def _amount(match: re.Match[str]) -> tuple[Reading, ...]:
    bare = not any(match[sign] for sign in ("money", "glued", "scale", "percent", "currency"))
    factors = [Decimal(_SCALES[(match["glued"] or match["scale"] or "one").lower()])]
    if match["percent"]:
        factors.append(factors[0] / 100)
    return tuple(
        tuple(Amount(value * factor, bare) for value in values) for values in _values(match) for factor in factors
    )


def _values(match: re.Match[str]) -> list[list[Decimal]]:
    """Return the numbers these digits may be: `12 840` is one number or two, and so is `3,5`."""
    digits = match["digits"]
    if match["dotted"]:
        return [[Decimal(digits.replace(".", ""))]]
    if match["comma"]:
        return [[Decimal(digits.replace(",", "."))], [Decimal(part) for part in digits.split(",")]]
    if match["grouped"]:
        whole = [Decimal(digits.replace(match["sep"], ""))]
        return [whole, [Decimal(part) for part in digits.split(" ")]] if match["sep"] == " " else [whole]
    return [[Decimal(digits)]]


_SMALL: Final = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
).split()
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORD_VALUES: Final = (
    {"a": 1, "an": 1, "one": 1}
    | {word: value for value, word in enumerate(_SMALL, 2)}
    | {word: value for value, word in zip(range(20, 100, 10), _TENS, strict=True)}
)
_ORDINALS: Final = {
    word: value
    for value, word in enumerate("third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), 3)
}
_WORDS: Final = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(_TENS)})(?:[\s-](?P<unit>one|{'|'.join(_SMALL[:8])}))?|(?P<small>{'|'.join(_SMALL)})"
    rf"|(?P<single>an?|one)(?=[\s-]{_SCALE_WORD}\b))\b(?:[\s-](?P<scale>{_SCALE_WORD})\b)?(?:{_AFTER})?",
    re.IGNORECASE,
)
_BIG: Final = ("hundred", "thousand", "million", "billion", "trillion", "dozen")
_A_SCALE: Final = re.compile(rf"(?:an?|one)[\s-]{_SCALE_WORD}")
_ORDINAL: Final = re.compile(rf"\b(?P<word>{'|'.join(_ORDINALS)})\b(?![\s-]part(?:y|ies)\b)", re.IGNORECASE)


def _words(match: re.Match[str]) -> tuple[Reading, ...]:
    said = (match[name] for name in ("tens", "unit", "small", "single"))
    value = Decimal(sum(_WORD_VALUES[word.lower()] for word in said if word))
    value *= _SCALES[(match["scale"] or "one").lower()]
    bare = not any(match[sign] for sign in ("scale", "percent", "currency"))
    plain: Reading = (Amount(value, bare),)
    return (plain, (Amount(value / 100, bare),)) if match["percent"] else (plain,)


def _ordinal(match: re.Match[str]) -> tuple[Reading, ...]:
    return ((Amount(Decimal(_ORDINALS[match["word"].lower()])),),)


_DIGIT: Final = frozenset("0")
_HYPHEN: Final = frozenset(("0-0",))
_THREE: Final = frozenset(("0/0/0",))
# An address taken out may leave a name where there was the beginning of a word.
_A_NAME: Final = frozenset(("form", "forms", "@", "http", "https", "www", *"bdfgkq"))
_A_MONTH: Final = frozenset(
    "january february march april may june july august september sept october november december".split() + _MONTHS
)
_A_QUARTER: Final = frozenset(("q", *_ORDINAL_QUARTERS))

_KINDS: Final = (
    (frozenset("@"), _EMAIL, _address),
    (frozenset(("http", "https", "www")), _URL, _address),
    (_A_NAME, _NAME, _name),
    (_THREE, _ISO, _written_day),
    (_THREE, _NUMERIC, _either_way),
    (_A_MONTH, _DAY_MONTH, _written_day),
    (_A_MONTH, _MONTH_DAY, _written_day),
    (_A_MONTH, _MONTH_YEAR, _written_day),
    (_HYPHEN, _ISO_MONTH, _year_and_month),
    (_A_QUARTER, _QUARTER, _quarter),
    (frozenset(("fy",)), _FISCAL, _year),
    (frozenset("s"), _DECADE, _decade),
    (_DIGIT, _NUMBER, _amount),
    (frozenset((*_SMALL, *_TENS, "a million")), _WORDS, _words),
    (frozenset(_ORDINALS), _ORDINAL, _ordinal),
)

# --- looking at many texts at once -----------------------------------------------------------------------------------

_MONEY_IN_FULL: Final = re.compile(rf"[$€£¥]\d+(?:\.\d+)?\s{_SCALE_WORD}")
_BEGINS: Final = re.compile(r"(?<![\w.,])")
_ENDS: Final = re.compile(rf"(?!\w|[.,]\d|\s?%|[\s-]{_SCALE_WORD}|\sper\s?cent)")

_PLAIN_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")

_APART: Final = "\n|\n"
"""Stands between texts that are searched together; no figure reaches across it."""
