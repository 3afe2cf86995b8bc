"""The names people in the sandbox may have, and how two spellings of one name are told to be the same.

256 first names and 1024 surnames; the counts are powers of two because a person's name is a number (`world.py`).
Accents, hyphens, particles and nicknames are here on purpose: real lists have them.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_NAMES = """
Ada Adam Adrian Agnes Aiko Aisha Akira Alan Albert Alejandro Alexander Alfred Alice Alina Amara Amelia Amir Ana
Anders Andrew Angela Anika Anneke Anthony Antonia Anya Arjun Arthur Astrid Audrey Axel Ayesha Barbara Beatriz
Benjamin Bernard Birgit Björn Boris Brigitte Bruno Camila Carla Caroline Catalina Cecilia Cédric Chiara Chidi
Chloé Christopher Claire Claudia Colin Cora Cyril Dagmar Daniel Daria David Deborah Deepa Diana Dimitri Dmitri
Dolores Dominic Donald Dorothy Edith Edward Eileen Elena Eleanor Elias Elif Elizabeth Ella Émile Emma Enrique
Erika Ernesto Esther Eugenia Eva Fatima Felix Fernando Fiona Florence François Franz Freya Gabriel Gareth Genevieve
George Gerald Gideon Giulia Grace Graham Gregory Greta Gunnar Gustavo Hana Hannah Harald Harriet Hassan Hélène
Helga Henry Hiroshi Hugo Ibrahim Ines Ingrid Irene Isaac Isabel Ivan Jacob Jamal James Jasmine Jeffrey Jennifer
Jens Joanna Joaquín Joel Johanna Jonas Jorge José Joseph Judith Julia Julian Kaito Karin Katherine Kenji Kenneth
Kerstin Kofi Konrad Kwame Lakshmi Lars Laura Lawrence Leila Leon Lena Linnea Lucia Ludwig Łukasz Lydia Magnus
Malik Manuel Marcus Margaret Maria Marta Mateo Matthew Maya Mei Mercedes Michael Mila Miriam Mohamed Monika Nadia
Naomi Natalia Nicholas Nils Nina Noor Norman Olga Oliver Olivia Oscar Otto Paloma Patricia Pavel Penelope Peter
Philip Pilar Priya Quentin Rachel Rafael Rajesh Ramona Raúl Rebecca Renée Richard Robert Rohan Ronald Rosa Ruben
Ruth Samuel Sandra Sanjay Saskia Sebastian Selma Sergei Sigrid Simon Sofia Søren Stella Stephen Sunita Susan Sven
Tamara Tariq Tatiana Theodore Thomas Timothy Tobias Ursula Valentina Vera Victoria Vikram Vincent Viola Walter
Wanda William Xavier Yara Yasmin Yuki Zainab Zoë Zofia Gwen Marlon Odette Tessa Roland Nikhil Leonie Marisol
Bastian Corinne Edgar Felicity
""".split()[:256]

NICKNAMES = {
    "alex": "Alexander", "al": "Albert", "andy": "Andrew", "angie": "Angela", "tony": "Anthony", "art": "Arthur",
    "barb": "Barbara", "ben": "Benjamin", "caz": "Caroline", "chris": "Christopher", "dan": "Daniel",
    "dave": "David", "deb": "Deborah", "dom": "Dominic", "don": "Donald", "dot": "Dorothy", "ed": "Edward",
    "ellie": "Eleanor", "liz": "Elizabeth", "gabe": "Gabriel", "jerry": "Gerald", "greg": "Gregory",
    "harry": "Henry", "jake": "Jacob", "jim": "James", "jeff": "Jeffrey", "jen": "Jennifer", "joe": "Joseph",
    "kate": "Katherine", "ken": "Kenneth", "larry": "Lawrence", "maggie": "Margaret", "matt": "Matthew",
    "mike": "Michael", "nick": "Nicholas", "pat": "Patricia", "pete": "Peter", "phil": "Philip",
    "becky": "Rebecca", "rick": "Richard", "bob": "Robert", "ron": "Ronald", "sam": "Samuel", "steve": "Stephen",
    "sue": "Susan", "ted": "Theodore", "tom": "Thomas", "tim": "Timothy", "vicky": "Victoria", "bill": "William",
}  # fmt: skip

_ROOTS = """
Ash Bar Black Brad Brant Cald Carr Chal Col Crom Dal Den Dray Eld Fair Fen Gar Gold Hal Hart Hath Kel Lang Lin
Mar Nor Pem Rad Sed Thorn Wal Win
""".split()
_ENDINGS = """
bourne brook bury combe dale den field ford gate ham hurst ley low mere more ridge shaw stead well worth
""".split()
_SPELLED = """
Adeyemi Agarwal Almeida Álvarez Andersson Aoki Arnaud Åkesson Bălan Banerjee Baptiste Bergström Bianchi Boateng
Bouchard Brandão Castañeda Chakraborty Chaudhry Çelik Dąbrowski D'Amico Delacroix de_la_Cruz Demir Diallo Dvořák
Eriksen Escobar Fernández Ferreira Fitzgerald Fuentes Fujimoto Gallagher García Gómez Grünwald Guðmundsson Gupta
Haddad Hakimi Halvorsen Hashimoto Hernández Hoffmann Ibáñez Ivanova Iyer Jabłoński Jansen Jørgensen Kamara Kapoor
Keller Khalil Kovács Kowalczyk Krüger Kuznetsov Lefèvre Lindqvist López Löwe MacAlister Mahmoud Marchetti Martínez
Mbeki McAllister Mehta Mensah Moreau Muñoz Müller Nakamura Naumann Ndiaye Nguyen Núñez O'Brien O'Sullivan Obi
Okafor Okonkwo Ólafsson Olsson Ortega Osei Özkan Papadakis Pérez Petrov Pfeiffer Popescu Quell Quiñones Rahman
Ramírez Rasmussen Ricci Rosenqvist Rossi Różański Sánchez Sato Schäfer Schröder Şahin Silva Skarsgård Sørensen
Souza Strauß Suzuki Takahashi Tanaka Thiessen Touré Tremblay Ünal van_der_Meer Vasquez Vega Velázquez Viñals Volkov
Wiśniewska Yamamoto Yilmaz Zając Zhang
""".split()
_WRITTEN = [name.replace("_", " ") for name in _SPELLED]

_WITHOUT_ACCENT = str.maketrans(
    {"ø": "o", "Ø": "o", "ł": "l", "Ł": "l", "ß": "ss", "æ": "ae", "ð": "d", "đ": "d", "ı": "i", "þ": "th"}
)


def plain(text: str) -> str:
    """Write a name without its accents, letters only otherwise untouched."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", text.translate(_WITHOUT_ACCENT))
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


def fold(text: str) -> str:
    """Reduce a name to what all its spellings share: small letters and digits."""
    return "".join(filter(str.isalnum, plain(text.lower())))


def _surnames(count: int) -> list[str]:
    made = [root + ending for root in _ROOTS for ending in _ENDINGS]
    single = made + _WRITTEN
    step = len(made) // 7
    doubles = (f"{_WRITTEN[i % len(_WRITTEN)]}-{made[(i * step + i) % len(made)]}" for i in range(count))
    return (single + [name for name in doubles if name.count("-") == 1])[:count]


SURNAMES = _surnames(1024)
FIRST_NAME_BITS, SURNAME_BITS = 8, 10
NAME_BITS = FIRST_NAME_BITS + SURNAME_BITS

NICKNAME_FOR = {full: nick.title() for nick, full in NICKNAMES.items()}
_FIRST = {fold(name): index for index, name in enumerate(FIRST_NAMES)}
_FIRST |= {nick: _FIRST[fold(full)] for nick, full in NICKNAMES.items()}
_LAST = {fold(name): index for index, name in enumerate(SURNAMES)}


def name_at(index: int) -> tuple[str, str]:
    """Give the first name and surname with this number."""
    return FIRST_NAMES[index >> SURNAME_BITS], SURNAMES[index & ((1 << SURNAME_BITS) - 1)]


def index_of(first: str, last: str) -> int | None:
    """Find the number of a name in any spelling, or None if nobody here is called that."""
    first_index, last_index = _FIRST.get(fold(first)), _LAST.get(fold(last))
    if first_index is None or last_index is None:
        return None
    return (first_index << SURNAME_BITS) | last_index


def index_of_full(name: str) -> int | None:
    """Find the number of a full name, wherever the surname begins and whichever comes first."""
    words = [word for word in name.replace(",", " ").split() if len(word.strip(".")) > 1]
    for cut in range(1, len(words)):
        one, other = "".join(words[:cut]), "".join(words[cut:])
        for first, last in ((one, other), (other, one)):
            if (found := index_of(first, last)) is not None:
                return found
    return None


def indices_in(words: list[str]) -> Iterator[int]:
    """Find every name written in a text, given as its folded words."""
    for at, word in enumerate(words):
        for length in (1, 2, 3):
            joined = "".join(words[at + 1 : at + 1 + length])
            for first, last in ((word, joined), (joined, word)):
                first_index, last_index = _FIRST.get(first), _LAST.get(last)
                if first_index is not None and last_index is not None:
                    yield (first_index << SURNAME_BITS) | last_index
