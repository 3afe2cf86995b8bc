"""Exa, imitated: search and contents, with the price of each call in its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluiceway.sandbox.limiter import PerSecond
from sluiceway.sandbox.pages import page_about, page_at, pages_about
from sluiceway.sandbox.seeded import mix
from sluiceway.sandbox.wire import json_answer, judge_key

if TYPE_CHECKING:
    from sluiceway.sandbox.pages import Page
    from sluiceway.sandbox.terms import ExaTerms
    from sluiceway.sandbox.wire import Answer, Ask, Bend
    from sluiceway.sandbox.world import World

INCLUDED_RESULTS = 10
# US dollars, per search by its type
_PRICES = {
    "auto": 0.007, "fast": 0.007, "neural": 0.007, "keyword": 0.007, "instant": 0.004, "lite": 0.004,
    "deep-lite": 0.012, "deep": 0.012, "deep-reasoning": 0.015,
}  # fmt: skip
_PER_PAGE = 0.001
_CATEGORIES = ("company", "people", "news", "publication", "personal site", "financial report")
_STRICT_CATEGORIES = ("company", "people")
_NOT_WITH_STRICT = ("startPublishedDate", "endPublishedDate", "excludeDomains")


class _Refused(Exception):  # noqa: N818 - it carries a refusal, it is not a failure of ours
    def __init__(self, status: int, tag: str, text: str) -> None:
        super().__init__(text)
        self.status, self.tag, self.text = status, tag, text


class Exa:
    """The provider `exa`."""

    name = "exa"

    def __init__(self, world: World, terms: ExaTerms) -> None:
        self._world = world
        self._limiter = PerSecond(terms.limit)

    def credential(self, ask: Ask) -> str:
        """Read the key, from either of the headers Exa accepts."""
        return ask.headers.get("x-api-key") or ask.headers.get("authorization", "").removeprefix("Bearer ")

    def answer(self, ask: Ask, bend: Bend | None) -> Answer:
        """Decide the answer to one request."""
        try:
            _admit(judge_key(self.credential(ask)) or bend)
            return self._served(ask)
        except _Refused as refused:
            return _error(ask.number, refused.status, refused.tag, refused.text)

    def refuse(self, status: int, retry_after: int | None) -> Answer:
        """Word a refusal that has nothing to do with the request."""
        headers = () if retry_after is None else (("retry-after", str(retry_after)),)
        if status == 429 and retry_after is None:
            return json_answer(429, {"error": "You have exceeded your rate limit"})  # without a tag, as also seen
        tag = _TAGS.get(status, "INTERNAL_ERROR")
        content = {"requestId": f"{mix(status):032x}", "error": "The request could not be served", "tag": tag}
        return json_answer(status, content, headers)

    def _served(self, ask: Ask) -> Answer:
        match ask.method, ask.path:
            case "POST", "/search":
                return self._search(ask)
            case "POST", "/contents":
                return self._contents(ask)
            case _:
                raise _Refused(404, "NOT_FOUND", "Not found")

    def _search(self, ask: Ask) -> Answer:
        wanted = _read(ask)
        kind, count = _checked(wanted)
        if not self._limiter.allows_one_more():
            raise _Refused(429, "RATE_LIMIT_EXCEEDED", "You have exceeded your rate limit of requests per second")
        found = [page for page in self._pages(wanted["query"]) if _is_wanted(page, wanted)][:count]
        contents = wanted.get("contents")
        contents = contents if isinstance(contents, dict) else {}
        base = _PRICES[kind] + _PER_PAGE * max(0, len(found) - INCLUDED_RESULTS)
        extra = _PER_PAGE * len(found) if contents.get("summary") else 0.0
        cost: dict[str, Any] = {"total": round(base + extra, 6), "search": {"neural": round(base, 6)}}
        if extra:
            cost["contents"] = {"summary": round(extra, 6)}
        return _answer(ask.number, {
            "resolvedSearchType": "neural",
            "searchTime": float(mix(ask.number) % 9000) / 10,
            "results": [_result(page, contents) for page in found],
            "costDollars": cost,
        })  # fmt: skip

    def _contents(self, ask: Ask) -> Answer:
        wanted = _read(ask)
        urls = wanted.get("urls") or wanted.get("ids")
        if not isinstance(urls, list) or not 1 <= len(urls) <= 100 or not all(isinstance(url, str) for url in urls):
            raise _Refused(400, "INVALID_URLS", "urls must be a list of 1 to 100 URLs")
        pages = {url: page_at(self._world, url) for url in urls}
        found = [page for page in pages.values() if page is not None]
        kinds = [kind for kind in ("text", "highlights", "summary") if wanted.get(kind)]
        cost = {kind: round(_PER_PAGE * len(found), 6) for kind in kinds}
        return _answer(ask.number, {
            "results": [_result(page, wanted) for page in found],
            "statuses": [_status(url, page) for url, page in pages.items()],
            "costDollars": {"total": round(sum(cost.values()), 6), "contents": cost},
        })  # fmt: skip

    def _pages(self, query: str) -> list[Page]:
        person, company = self._world.in_text(query)
        if person is not None:
            return pages_about(self._world, person) if person.in_exa else []
        return [] if company is None else [page_about(company)]


_TAGS = {429: "RATE_LIMIT_EXCEEDED", 503: "SERVICE_OVERLOADED"}


def _admit(bend: Bend | None) -> None:
    match bend:
        case "bad-key" | "revoked":
            raise _Refused(401, "INVALID_API_KEY", "Invalid API key")
        case "no-scope":
            raise _Refused(403, "INSUFFICIENT_SCOPE", "This API key may not use this endpoint")
        case "out-of-credits":
            raise _Refused(402, "NO_MORE_CREDITS", "You have no more credits. Please top up your account.")


def _read(ask: Ask) -> dict[str, Any]:
    body = ask.json()
    if not isinstance(body, dict):
        raise _Refused(400, "INVALID_REQUEST_BODY", "The body must be a JSON object")
    return body


def _checked(wanted: dict[str, Any]) -> tuple[str, int]:
    """Check a search and give its type and its number of results."""
    query, kind, count = wanted.get("query"), wanted.get("type", "auto"), wanted.get("numResults", 10)
    if not isinstance(query, str) or not query.strip():
        raise _Refused(400, "INVALID_REQUEST_BODY", "query must be a non-empty string")
    if kind not in _PRICES:
        raise _Refused(400, "INVALID_REQUEST_BODY", f"type must be one of {', '.join(_PRICES)}")
    if not isinstance(count, int) or not 1 <= count <= 100:
        raise _Refused(400, "INVALID_NUM_RESULTS", "numResults must be from 1 to 100")
    category = wanted.get("category")
    if category is not None and category not in _CATEGORIES:
        raise _Refused(400, "INVALID_REQUEST_BODY", f"category must be one of {', '.join(_CATEGORIES)}")
    if category in _STRICT_CATEGORIES and any(wanted.get(key) for key in _NOT_WITH_STRICT):
        raise _Refused(400, "INVALID_REQUEST", f"category {category} takes no date filters and no excludeDomains")
    return kind, count


def _is_wanted(page: Page, wanted: dict[str, Any]) -> bool:
    include, exclude = wanted.get("includeDomains"), wanted.get("excludeDomains")
    if (include and page.host not in include) or (exclude and page.host in exclude):
        return False
    since, until = wanted.get("startPublishedDate"), wanted.get("endPublishedDate")
    if not since and not until:
        return True
    day = page.published and page.published.isoformat()
    return bool(day and str(since or "") <= day <= str(until or "9999"))


def _result(page: Page, contents: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "id": page.url,
        "url": page.url,
        "title": page.title,
        "publishedDate": page.published and f"{page.published}T00:00:00.000Z",
        "author": page.author,
        "image": None,
        "favicon": f"https://{page.host}/favicon.ico",
    }
    if text := contents.get("text"):
        limit = text.get("maxCharacters") if isinstance(text, dict) else None
        result["text"] = page.text[:limit] if isinstance(limit, int) else page.text
    if contents.get("highlights"):
        result["highlights"] = [page.text.split(". ", 1)[0]]
        result["highlightScores"] = [0.5]
    if contents.get("summary"):
        result["summary"] = page.text.split(". ", 1)[0] + "."
    return result


def _status(url: str, page: Page | None) -> dict[str, Any]:
    if page is not None:
        return {"id": url, "status": "success", "source": "cached"}
    return {"id": url, "status": "error", "error": {"tag": "CRAWL_NOT_FOUND", "httpStatusCode": 404}}


def _answer(number: int, content: dict[str, Any]) -> Answer:
    request_id = f"{mix(number ^ 0xE8A):032x}"
    headers = (("x-request-id", request_id), ("x-exa-queued", "false"), ("x-exa-queue-ms", "0"))
    return json_answer(200, {"requestId": request_id, **content}, headers)


def _error(number: int, status: int, tag: str, text: str) -> Answer:
    request_id = f"{mix(number ^ 0xE8A):032x}"
    return json_answer(status, {"requestId": request_id, "error": text, "tag": tag}, (("x-request-id", request_id),))
