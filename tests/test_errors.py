"""What becomes of an exception before anyone reads it, and what each of our errors asks for."""

from __future__ import annotations

import errno
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sluiceway import errors
from sluiceway.errors import LONGEST_ERROR, Redactor, describe

# A secret begins and ends with letters that nothing around it has, so any part that survives is seen.
HEAD, TAIL = "Zq9Jv", "vJ7xK"
SECRETS = st.text("ABCabc019-._~+=:/@!$*,; %&?#", max_size=40).map(lambda text: f"{HEAD}{text}{TAIL}")
AROUND = st.text(max_size=LONGEST_ERROR + 20)


class MuteError(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class OddError(Exception):
    """Says something that is not text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - which is the point


SPELLINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "percent-encoded": lambda secret: quote(secret, safe=""),
    "percent-encoded in lower case": lambda secret: quote(secret, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
    "percent-encoded as a form": quote_plus,
    "encoded twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "in a query string": lambda secret: f"https://api.example/v1/people?name=x&{urlencode({'key': secret})}",
    "in a query string as it is": lambda secret: f"https://api.example/v1/people?key={secret}&name=x",
    "in a header": lambda secret: f"Authorization: Bearer {secret}",
}
KINDS: dict[str, Callable[[str], BaseException | str]] = {
    "a provider's words": str,
    "ValueError": ValueError,
    "OSError": lambda text: OSError(errno.ECONNREFUSED, text),
    "our own": errors.LostAnswer,
    "a group": lambda text: ExceptionGroup(text, [ValueError(text)]),
    "with several arguments": lambda text: RuntimeError("HTTP 500", text),
    "not an Exception": KeyboardInterrupt,
}


def has_no_trace(line: str) -> bool:
    return HEAD.lower() not in line.lower() and TAIL.lower() not in line.lower()


@given(SECRETS, AROUND, AROUND, st.sampled_from(sorted(SPELLINGS)), st.sampled_from(sorted(KINDS)))
@example(f"{HEAD}{TAIL}", "x" * (LONGEST_ERROR - 5), "", "raw", "ValueError")
def test_any_exception_becomes_a_non_empty_redacted_error(
    secret: str, before: str, after: str, spelling: str, kind: str
) -> None:
    assume(has_no_trace(before + after))
    line = describe(KINDS[kind](f"{before}{SPELLINGS[spelling](secret)} {after}"), Redactor([secret]))
    assert line.strip()
    assert len(line) <= LONGEST_ERROR
    assert line == " ".join(line.splitlines())
    assert line.isprintable() or not any(character < " " for character in line)
    assert has_no_trace(line)


@pytest.mark.parametrize("cut", range(len(HEAD + TAIL) + 2))
def test_no_half_of_a_secret_survives_the_cut(cut: int) -> None:
    text = "x" * (LONGEST_ERROR - cut) + HEAD + TAIL + "y" * 40
    assert has_no_trace(describe(text, Redactor([HEAD + TAIL])))


@given(st.text(max_size=2 * LONGEST_ERROR))
def test_whatever_a_provider_says_becomes_one_line(said: str) -> None:
    line = describe(said, Redactor())
    assert line.strip()
    assert len(line) <= LONGEST_ERROR
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MuteError(), "MuteError"),
        (OddError(), "OddError"),
        (ValueError(), "ValueError"),
        (ValueError("  \n "), "ValueError"),
        (ValueError("two\r\n\tlines"), "ValueError: two lines"),
        (TimeoutError(), "TimeoutError"),
        (errors.LostAnswer("it broke off"), "it broke off"),
        (errors.BadInput(), "A file, a row or an option cannot be used as it is."),
        ("", "no reason given"),
        (" \x00 ", "no reason given"),
    ],
)
def test_an_exception_is_described_even_when_it_says_nothing(error: BaseException | str, line: str) -> None:
    assert describe(error, Redactor()) == line


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("GET https://api.example/v1/match?name=Ines&key=k1 failed", "GET https://api.example/v1/match failed"),
        (
            "see 'https://api.example/?a=b' or https://api.example/x?c",
            "see 'https://api.example/' or https://api.example/x",
        ),
        ("https://api.example/v1/match is fine", "https://api.example/v1/match is fine"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: [redacted]"),
        ('{"api_key": "abcdefgh12345"}', '{"api_key": "[redacted]"}'),
        ("x-api-key=abcdefgh12345 was refused", "x-api-key=[redacted] was refused"),
        ("key sk-ant-REDACTED is invalid", "key [redacted] is invalid"),
        ("no profile of ines@harbourline.example", "no profile of [e-mail]"),
        ("email=ines%40harbourline.example not found", "email=[e-mail] not found"),
        ("the maximum is 600 times per hour", "the maximum is 600 times per hour"),
    ],
)
def test_what_looks_like_a_key_a_query_or_an_address_is_taken_out(said: str, shown: str) -> None:
    assert describe(said, Redactor()) == shown


@pytest.mark.parametrize("safe", ["/", ":@", "+", "=", "/?:@"])
def test_a_secret_is_found_however_much_of_it_an_encoder_left_alone(safe: str) -> None:
    secret = f"{HEAD}a/b+c:d@e=f{TAIL}"
    assert has_no_trace(describe(f"bad key {quote(secret, safe=safe)}", Redactor([secret])))


def test_an_address_loses_its_query_however_its_scheme_is_written() -> None:
    assert describe("HTTPS://api.example/v1/match?name=Ines", Redactor()) == "HTTPS://api.example/v1/match"


def test_a_very_short_secret_does_not_blot_out_ordinary_words() -> None:
    assert describe("a set of words", Redactor(["", "a", "set"])) == "a set of words"


@pytest.mark.parametrize(
    ("error", "group"),
    [
        (errors.NotSent, errors.TryLater),
        (errors.LostAnswer, errors.TryLater),
        (errors.CallTimedOut, errors.LostAnswer),
        (errors.StoreUnavailable, errors.TryLater),
        (errors.BadInput, errors.Mistaken),
        (errors.BadSetting, errors.Mistaken),
        (errors.NewerStore, errors.Mistaken),
        (errors.ProviderChanged, errors.SluicewayError),
    ],
)
def test_errors_are_grouped_by_what_to_do_next(error: type[Exception], group: type[Exception]) -> None:
    assert issubclass(error, group)


def test_the_tree_in_the_module_names_every_error() -> None:
    ours = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert all(name in (errors.__doc__ or "") for name in ours)
