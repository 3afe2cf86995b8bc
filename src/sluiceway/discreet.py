"""What may be said of an error: not whom it is about, in whatever spelling a provider said them back.

Error texts are kept, counted and shown to people who may not see the prospect. Only they pass through here, so a call
that went well costs nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from html import unescape
from itertools import pairwise

from sluiceway.errors import EMAIL, Redactor
from sluiceway.prospect import Person, normal_linkedin

_SHORTEST_NAME = 3
_SURE_ANYWHERE = 6
"""Letters from which several words of a person are hidden even inside a longer word, as in `u_inesokafor2`."""

_TIMES_ENCODED = 5
_ENCODED_AGAIN = re.compile(r"%(?:25)+(?=[0-9A-Fa-f]{2})")
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPED = re.compile(r"\\+u([0-9A-Fa-f]{4})")
_PROFILE = re.compile(r"(?i)linkedin\.com\s*/\s*(?:in|pub)\s*/[^\s\"'<>?#,;)\]}]+")

_SPACE = r"[\s().\-/+\u2010-\u2015]"
_PHONE = re.compile(
    rf"(?<![A-Za-z0-9])(?:"
    rf"\({{0,1}}\+{_SPACE}{{0,2}}\d(?:{_SPACE}{{0,3}}\d){{6,14}}"  # +44 (0)20 7946 0958
    rf"|(?:1{_SPACE})?\(?\d{{3}}{_SPACE}{{1,2}}\d{{3}}{_SPACE}{{1,2}}\d{{4}}"  # (415) 555-0134
    rf"|\(?0(?!\.)(?:{_SPACE}{{0,2}}\d){{8,14}}"  # 020 7946 0958
    rf"|\d{{1,3}}(?:{_SPACE}\d{{2,4}}){{3,5}}(?<=\d{_SPACE}\d{{4}})"  # 44 20 7946 0958
    rf"|(?<!-)\d{{10,15}}"
    rf")(?![A-Za-z0-9])"
)

_SHAPES = {EMAIL: "[e-mail]", _PROFILE: "[profile]", _PHONE: "[phone]"}

_SAYS_NOTHING = frozenset(
    "account admin agent and answer api are bad body call can char charge check code connection contact content"
    " count credit credits data day der des does empty end error expired fail failed false field file for"
    " forbidden format found from given gone has header hit hour http https human info internal invalid key land"
    " left limit line list long lost mail match max may miss missing more name net new none not null off office"
    " one open order out over own page pass path pay person phone plan post price profile quota rate read reason"
    " redacted request rest retry return sales search sent server service sign source spent state status store sum"
    " support team test text than that the this time token too true try type unit unknown url use used user value"
    " van von was who will with word work wrong you your".split()
)
"""Words that errors are made of, and particles: alone they name nobody, though somebody may be called so."""

_ALSO_WRITTEN = {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"}
_LOST = "\ufffd"


def discreet(redact: Redactor, person: Person) -> Callable[[str], str]:
    """Return what takes secrets out of a text, and everything that tells who this person is.

    E-mail addresses, LinkedIn profiles and phone numbers go whoever's they are; the name goes as a whole and word by
    word, but for words of one or two letters or of an error's own vocabulary. Companies stay: they are nobody.
    """

    def without(text: str) -> str:
        text = redact.without_keys(_decoded(text, redact.without_keys))
        for shape, word in _SHAPES.items():
            text = shape.sub(word, text)
        return redact(_without_names(text, person))

    return without


def _decoded(text: str, hide: Callable[[str], str] = str) -> str:
    """Undo percent-encoding, `\\u` escapes and HTML entities, however often they were laid over each other.

    `hide` is applied before each layer is taken off: a key may hold what looks like an encoding, or like a person.
    """
    for _ in range(_TIMES_ENCODED):
        hidden = hide(text)
        text = _ENCODED.sub(_bytes_meant, _ENCODED_AGAIN.sub("%", hidden))
        text = unescape(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), text))
        if text == hidden:
            break
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # two escapes may be one letter


def _bytes_meant(found: re.Match[str]) -> str:
    encoded = bytes.fromhex(found[0].replace("%", ""))
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded.decode("latin-1")


def _without_names(text: str, person: Person) -> str:
    """Blot out the person's names wherever a text has them, by comparing plain letters."""
    pattern = _pattern(person)
    if pattern is None:
        return text
    letters, origins = _plain(text)
    kept, upto = [], 0
    for found in pattern.finditer(letters):
        start, end = origins[found.start()], origins[found.end() - 1] + 1
        kept += [text[upto:start], "[person]"]
        upto = max(upto, end)
    return "".join(kept) + text[upto:]


def _plain(text: str) -> tuple[str, list[int]]:
    """Return a text's plain letters, everything between words as spaces, and where in the text each came from."""
    letters: list[str] = []
    origins: list[int] = []
    for at, character in enumerate(text):
        for letter in _letters(character):
            letters.append(letter)
            origins.append(at)
    return "".join(letters), origins


@lru_cache(maxsize=4096)
def _letters(character: str) -> str:
    """Return a character as lower-case Latin letters: none for an accent on its own, a space for what is no letter."""
    if character.isascii():
        return character.lower() if character.isalnum() else " "
    if character == _LOST or unicodedata.category(character) in ("Cf", "Mn"):
        return character if character == _LOST else ""
    from anyascii import anyascii  # a table of every script

    return "".join(letter if letter.isalnum() else " " for letter in anyascii(character).lower())


@lru_cache(maxsize=256)
def _pattern(person: Person) -> re.Pattern[str] | None:
    """Return what finds the person in plain letters, longest first; `None` where nothing could name them."""
    known = sorted((*_phrases(person), *_words_of_name(person)), key=_count_letters, reverse=True)
    patterns = dict.fromkeys(filter(None, map(_spelled, known)))
    return re.compile("|".join(patterns)) if patterns else None


def _phrases(person: Person) -> Iterator[list[str]]:
    """Yield what names the person in several words, or as an address does."""
    first, last = _words(person.first_name), _words(person.last_name)
    for name in (_words(person.full_name), first + last, last + first):
        yield name
        for pair in pairwise(name):
            yield [*pair]
            yield [*reversed(pair)]
    yield _words(person.email)
    yield _words(person.email.partition("@")[0])
    yield _words(normal_linkedin(person.linkedin_url).partition("/")[2])
    yield _words(person.apollo_id)


def _words_of_name(person: Person) -> Iterator[list[str]]:
    for word in _words(f"{person.first_name} {person.last_name} {person.full_name}"):
        yield [word]


def _words(text: str) -> list[str]:
    """Split a value into its words, accents and all."""
    composed = unicodedata.normalize("NFC", _decoded(text))
    return "".join(" " if _letters(character).isspace() else character for character in composed).split()


def _count_letters(words: list[str]) -> int:
    return sum(map(len, words))


def _spelled(words: list[str]) -> str:
    """Return a pattern for some words, however they are joined; nothing where they could be anybody's or anything."""
    letters = "".join("".join(map(_letters, word)) for word in words)
    pattern = " {0,3}".join("".join(map(_letter_spelled, word)) for word in words)
    if len(words) > 1 and len(letters) >= _SURE_ANYWHERE:
        return pattern
    if len(words) == 1 and len(letters) > len(words[0]) > 1:
        return pattern  # a script of syllables, which may put no space between words
    says_nothing = len(letters) < _SHORTEST_NAME or letters.isdigit() or letters in _SAYS_NOTHING
    if not letters or (len(words) == 1 and says_nothing):
        return ""
    return f"(?<![a-z]){pattern}(?![a-z])"


def _letter_spelled(letter: str) -> str:
    """Return a pattern for a letter in plain text, where an accented one may have come to grief on its way."""
    plain = re.escape(_letters(letter))
    if letter.isascii():
        return plain
    other = _ALSO_WRITTEN.get(letter.lower())
    return f"(?:{plain}|{_LOST}+|{other})" if other else f"(?:{plain}|{_LOST}+)"
