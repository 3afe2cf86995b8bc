"""The few pages that sign somebody in: plain HTML without scripts, which nothing else can be put into or framed by."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Final

from starlette.responses import HTMLResponse

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 30rem; margin: 4rem auto; padding: 0 1rem; color: #1b1f24; }
label { display: block; margin: 1rem 0; }
input { display: block; width: 100%; box-sizing: border-box; font: inherit; padding: .4rem; }
button { font: inherit; padding: .5rem 1.2rem; }
.wrong { border-left: 4px solid #b3261e; padding-left: .8rem; }
"""
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    # With `no-referrer` browsers would not say either which page sent a form, and that is how we know ours.
    "Referrer-Policy": "same-origin",
}

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Sluiceway</title>
<style>{style}</style>
<h1>{title}</h1>
{body}
</html>
"""


def page(title: str, *parts: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """Return a page of parts that are HTML already."""
    html = _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(part for part in parts if part))
    return HTMLResponse(html, status, {**HEADERS, **(headers or {})})


def text(*sentences: str) -> str:
    """Write sentences as a paragraph."""
    return f"<p>{escape(' '.join(sentences))}</p>"


def wrong(sentence: str) -> str:
    """Say what was wrong, if anything was."""
    return f'<p class="wrong" role="alert">{escape(sentence)}.</p>' if sentence else ""


def form(action: str, button: str, *fields: str) -> str:
    """Write a form with one button."""
    return (
        f'<form method="post" action="{escape(action)}">{"".join(fields)}'
        f'<button type="submit">{escape(button)}</button></form>'
    )


def field(name: str, label: str, autocomplete: str, kind: str = "password", value: str = "") -> str:
    """Write a field to fill in."""
    filled = f' value="{escape(value)}"' if value else ""
    return (
        f'<label>{escape(label)} <input type="{kind}" name="{name}" autocomplete="{autocomplete}"{filled} '
        "required></label>"
    )


def hidden(name: str, value: str) -> str:
    """Write a field that a form brings along."""
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'
