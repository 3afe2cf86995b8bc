"""Every error we raise, grouped by what the reader should do next.

    SluicewayError
    ├── TryLater                 nothing to mend; the same request may work later
    │   ├── NotSent              provably never left this machine (DNS, refused, no route)
    │   ├── LostAnswer           sent, and no complete answer came back: it may have been billed
    │   │   └── CallTimedOut     ... because its deadline passed
    │   └── StoreUnavailable     the ledger cannot be written, so nothing is sent
    ├── ProviderChanged          the answer has a shape we do not know, or a size we refuse
    └── Mistaken                 our caller must change something
        ├── BadInput             a file, a row or an option
        ├── BadSetting           a setting or an environment variable
        ├── NotAllowed           something that the caller's role or tenant does not allow
        ├── NotThere             nothing of that name, as far as the caller may know
        ├── Conflict             what is there by now does not allow it
        └── NewerStore           the store was written by a newer Sluiceway

`describe` turns any exception into the one redacted line that is stored, logged and shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


class SluicewayError(Exception):
    """The root of our errors; its text is a sentence that says what to do."""


class TryLater(SluicewayError):  # noqa: N818 - named for what to do, not for being an error
    """Nothing needs mending; the same request may work later."""


class NotSent(TryLater):
    """The request provably never left this machine."""


class LostAnswer(TryLater):
    """The request was sent and no complete answer came back, so it may have been billed."""


class CallTimedOut(LostAnswer):
    """The request's deadline passed before its answer was complete."""


class StoreUnavailable(TryLater):
    """The ledger cannot be written, so no request may be sent."""


class ProviderChanged(SluicewayError):  # noqa: N818
    """A provider's answer has a shape we do not know, or a size we refuse."""


class Mistaken(SluicewayError):  # noqa: N818
    """Our caller must change something."""


class BadInput(Mistaken):
    """A file, a row or an option cannot be used as it is."""


class BadSetting(Mistaken):
    """A setting or an environment variable cannot be used as it is."""


class NotAllowed(Mistaken):
    """The caller's role does not allow it, or it is another tenant's."""


class NotThere(Mistaken):
    """There is nothing of that name, or it is not the caller's to know of."""


class Conflict(Mistaken):
    """What was asked for does not go with what is there by now."""


class NewerStore(Mistaken):
    """The store was written by a newer Sluiceway than this one."""


LONGEST_ERROR = 300
"""Characters of an error that are kept; cut only after redaction, so no half of a key survives a cut."""

_LONGEST_READ = 4_000
_HALF_READ = 1_000
"""Characters at the end of a line that are dropped when its text was cut: they may be half of what is hidden whole."""

_HIDDEN = "[redacted]"
_QUERY = re.compile(r"(?i)(https?://[^\s\"'<>?]+)\?[^\s\"'<>]*")
_LABELLED = re.compile(
    r"(?i)((?:x[-_]?)?api[-_]?key\"?\s*[:=]\s*\"?|(?:authorization|token|secret|password)\"?\s*[:=]\s*\"?"
    r"|\bbearer\s+|\bbasic\s+)(?:bearer\s+|basic\s+)?([A-Za-z0-9._~+/%-]{6,}=*)"
)
_KEY_SHAPED = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}")
EMAIL = re.compile(r"[\w.%+'-]{1,200}(?:@|%(?:25)*40)[\w.-]{1,200}\.\w{2,24}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")


class Redactor:
    """Takes secrets, and the people asked about, out of any text before it is stored or shown.

    Knows the literal secrets it was given, raw and percent-encoded, in any case, and the shapes keys usually have.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self._literal: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Take these out as well from now on."""
        new = {secret for secret in secrets if len(secret) >= 4} - self._secrets
        if new:
            self._secrets |= new
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._literal = re.compile("|".join(map(_any_spelling, longest_first)), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """Return the text on one line without secrets, e-mail addresses or URL queries."""
        text = EMAIL.sub("[e-mail]", _QUERY.sub(r"\1", self.without_keys(text)))
        return _CONTROL.sub(" ", text).strip()

    def without_keys(self, text: str) -> str:
        """Return the text without secrets, and as it is otherwise."""
        if self._literal:
            text = self._literal.sub(_HIDDEN, text)
        text = _LABELLED.sub(rf"\1{_HIDDEN}", text)
        return _KEY_SHAPED.sub(_HIDDEN, text)


def _any_spelling(secret: str) -> str:
    """Return a pattern for a secret with any of its characters percent-encoded, once or several times over."""
    return "".join(map(_any_spelling_of, secret))


def _any_spelling_of(character: str) -> str:
    encoded = "".join(f"%(?:25)*{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    plain = re.escape(character)
    return f"(?:{plain}|{encoded}|{_any_spelling_of('+')})" if character == " " else f"(?:{plain}|{encoded})"


def describe(error: BaseException | str, redact: Callable[[str], str]) -> str:
    """Return a non-empty, redacted line for any exception or provider text, at most `LONGEST_ERROR` characters."""
    text = error if isinstance(error, str) else _words(error)
    line = redact(text[:_LONGEST_READ])
    if len(text) > _LONGEST_READ:
        line = line[:-_HALF_READ]
    line = line or (type(error).__name__ if not isinstance(error, str) else "no reason given")
    return line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"


def _words(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # an exception whose own __str__ fails must still be described
        said = ""
    name = type(error).__name__
    if isinstance(error, SluicewayError):
        return said or (type(error).__doc__ or name)
    return f"{name}: {said}" if said.strip() else name
