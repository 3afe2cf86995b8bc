"""Apollo, imitated: people/match, bulk_match, the people search, and what a key may ask about its own usage."""

from __future__ import annotations

import calendar
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from sluiceway.sandbox.apollo_search import asked_for, found, page_of
from sluiceway.sandbox.seeded import mix
from sluiceway.sandbox.wire import Answer, encode, json_answer, judge_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sluiceway.sandbox.companies import Company
    from sluiceway.sandbox.terms import ApolloTerms
    from sluiceway.sandbox.wire import Ask, Bend, Headers
    from sluiceway.sandbox.world import Person, World

MATCH, BULK = "/api/v1/people/match", "/api/v1/people/bulk_match"
SEARCH = "/api/v1/mixed_people/api_search"
BULK_LIMIT = 10
_WINDOWS = (("minute", 60), ("hour", 3600), ("day", 86400))
# how each window is called in the three headers about it
_HEADER_WORDS = (("minute", "minute"), ("hourly", "hourly"), ("24-hour", "24-hour"))
_IDENTIFYING = ("id", "email", "hashed_email", "linkedin_url", "name", "first_name", "last_name")


class Windows:
    """Count one endpoint's requests in three fixed windows, each opened by the first request in it."""

    __slots__ = ("_limits", "_opened", "_used")

    def __init__(self, terms: ApolloTerms) -> None:
        self._limits = (terms.minute, terms.hour, terms.day)
        self._opened = [0.0, 0.0, 0.0]
        self._used = [0, 0, 0]

    def take(self, now: float) -> tuple[int, str, int] | None:
        """Use up one request, or say which limit stands in the way: (limit, window, seconds to wait)."""
        for index, (window, length) in enumerate(_WINDOWS):
            if now - self._opened[index] >= length:
                self._opened[index], self._used[index] = now, 0
            limit = self._limits[index]
            if limit and self._used[index] >= limit:
                return limit, window, int(self._opened[index] + length - now) + 1
        for index in range(len(_WINDOWS)):
            self._used[index] += 1
        return None

    def headers(self) -> Headers:
        """Write the nine rate headers; a window without limit has an empty one and no usage."""
        lines: list[tuple[str, str]] = []
        for (word, usage_word), limit, used in zip(_HEADER_WORDS, self._limits, self._used, strict=True):
            if not limit:
                lines.append((f"x-rate-limit-{word}", ""))
                continue
            lines += (
                (f"x-rate-limit-{word}", str(limit)),
                (f"x-{usage_word}-usage", str(used)),
                (f"x-{usage_word}-requests-left", str(limit - used)),
            )
        return tuple(lines)

    def usage(self) -> dict[str, dict[str, int]]:
        """Show the same counts the way api_usage_stats does."""
        counted = zip(_WINDOWS, self._limits, self._used, strict=True)
        return {
            window: {"limit": limit, "consumed": used, "left_over": limit - used}
            for (window, _), limit, used in reversed(list(counted))
            if limit
        }


class Apollo:
    """The provider `apollo`."""

    name = "apollo"

    def __init__(self, world: World, terms: ApolloTerms) -> None:
        self._world = world
        self._terms = terms
        self._windows: dict[tuple[str, str], Windows] = {}
        self._spent: dict[str, int] = {}
        self._routes: dict[tuple[str, str], Callable[[Ask, Bend | None], Answer]] = {
            ("POST", MATCH): self._match,
            ("POST", BULK): self._bulk_match,
            ("POST", SEARCH): self._search,
            ("POST", "/api/v1/usage_stats/api_usage_stats"): self._api_usage,
            ("POST", "/api/v1/usage_stats/credit_usage_stats"): self._credit_usage,
            ("GET", "/api/v1/users/api_profile"): self._profile,
            ("GET", "/api/v1/auth/health"): self._health,
        }

    def credential(self, ask: Ask) -> str:
        """Read the key, from either of the headers Apollo accepts."""
        return ask.headers.get("x-api-key") or ask.headers.get("authorization", "").removeprefix("Bearer ")

    def answer(self, ask: Ask, bend: Bend | None) -> Answer:
        """Decide the answer to one request."""
        key = self.credential(ask)
        bend = judge_key(key) or bend
        if bend in ("bad-key", "revoked"):
            return _INVALID_KEY
        if bend == "no-scope" or ("not-master" in key and "/usage_stats/" in ask.path):
            return _inaccessible(ask.path)
        route = self._routes.get((ask.method, ask.path))
        if route is None:
            return json_answer(404, {"error": "The requested resource could not be found"})
        windows = self._windows_of(key, ask.path)
        if (full := windows.take(time.monotonic())) is not None:
            return _too_many(ask.path, *full, windows.headers())
        answer = route(ask, bend)
        return Answer(answer.status, answer.body, answer.content_type, windows.headers() + _traces(ask.number))

    def refuse(self, status: int, retry_after: int | None) -> Answer:
        """Word a refusal that has nothing to do with the request."""
        headers = () if retry_after is None else (("retry-after", str(retry_after)),)
        if status == 429:
            return json_answer(429, {"message": _too_many_text("api/v1/people/match", 1000, "minute")}, headers)
        return json_answer(status, {"error": "Something went wrong. Please try again."}, headers)

    def _windows_of(self, key: str, path: str) -> Windows:
        found = self._windows.get((key, path))
        if found is None:
            found = self._windows[key, path] = Windows(self._terms)
        return found

    def _match(self, ask: Ask, bend: Bend | None) -> Answer:
        wanted = _parameters(ask)
        if not any(wanted.get(name) for name in _IDENTIFYING):
            return json_answer(422, {"error": "Required parameter missing: provide an e-mail, a name, or an id"})
        key = self.credential(ask)
        if bend == "out-of-credits" or self._left(key) < 1:
            return _NO_CREDITS
        person = self._find(wanted, bend)
        if person is not None:
            self._spent[key] = self._spent.get(key, 0) + 1
        return json_answer(200, {"person": person and _person(person), "request_id": _request_id(ask.number)})

    def _bulk_match(self, ask: Ask, bend: Bend | None) -> Answer:
        body = ask.json()
        details = body.get("details") if isinstance(body, dict) else None
        if not isinstance(details, list) or not details:
            return _bulk_failure(400, "INVALID_REQUEST", "invalid request, missing details")
        if len(details) > BULK_LIMIT:
            return _bulk_failure(400, "RECORD_LIMIT_EXCEEDED", "cannot enrich more than 10 in a single request")
        if not all(isinstance(detail, dict) for detail in details):
            return _bulk_failure(422, "UNKNOWN_ERROR", "each of the details must be an object")
        key = self.credential(ask)
        if bend == "out-of-credits" or self._left(key) < len(details):
            return _NO_CREDITS
        return self._bulk_answer(ask, [self._find(detail, bend) for detail in details], key)

    def _bulk_answer(self, ask: Ask, found: list[Person | None], key: str) -> Answer:
        distinct = len({person.number for person in found if person is not None})
        self._spent[key] = self._spent.get(key, 0) + distinct
        return json_answer(200, {
            "status": "success",
            "error_code": None,
            "error_message": None,
            "total_requested_enrichments": len(found),
            "unique_enriched_records": distinct,
            "missing_records": found.count(None),
            "credits_consumed": distinct,
            "matches": [person and _person(person) for person in found],
            "request_id": _request_id(ask.number),
        })  # fmt: skip

    def _search(self, ask: Ask, _bend: Bend | None) -> Answer:
        wanted = asked_for(ask)
        if wanted is None:
            return json_answer(422, {"error": "page must be from 1 to 500, and per_page from 1 to 100"})
        people = found(self._world, wanted)
        shown = [_found_person(person) for person in page_of(people, wanted)]
        return json_answer(200, {"total_entries": len(people), "people": shown})

    def _find(self, wanted: Mapping[str, Any], bend: Bend | None) -> Person | None:
        person, by_name_only = look_up(self._world, wanted)
        if person is None or not person.in_apollo:
            return None
        mistaken = bend == "namesake" or (by_name_only and person.shares_a_name)
        return self._world.namesake(person) if mistaken else person

    def _left(self, key: str) -> int:
        return self._terms.credits - self._spent.get(key, 0)

    def _api_usage(self, ask: Ask, _bend: Bend | None) -> Answer:
        key = self.credential(ask)
        for path in (MATCH, BULK):  # an account's endpoints are listed whether they were used or not
            self._windows_of(key, path)
        mine = {path: windows for (owner, path), windows in self._windows.items() if owner == key}
        return json_answer(200, {_usage_key(path): windows.usage() for path, windows in mine.items()})

    def _credit_usage(self, ask: Ask, bend: Bend | None) -> Answer:
        spent = self._spent.get(self.credential(ask), 0)
        left = 0 if bend == "out-of-credits" else self._terms.credits - spent
        today = self._world.today
        last = calendar.monthrange(today.year, today.month)[1]
        pool = {"limit": spent + left, "consumed": spent, "left_over": left}
        empty = {"limit": 0, "consumed": 0, "left_over": 0}
        return json_answer(200, {
            "credit_usage_stats": {"lead_credit": pool, **dict.fromkeys(_OTHER_POOLS, empty)},
            "current_credit_cycle": {
                "start_date": today.replace(day=1).isoformat(), "end_date": today.replace(day=last).isoformat()
            },
        })  # fmt: skip

    def _profile(self, ask: Ask, bend: Bend | None) -> Answer:
        profile: dict[str, Any] = {"id": "5f0000000000000000000001", "email": "owner@workspace.example"}
        if ask.query.get("include_credit_usage") == "true":
            spent = self._spent.get(self.credential(ask), 0)
            all_credits = spent if bend == "out-of-credits" else self._terms.credits
            # num_credits_remaining stays at 0 on plans with one pool of credits, whatever is left
            profile |= {
                "num_credits_remaining": 0,
                "effective_num_lead_credits": all_credits,
                "total_unified_credits_used": spent,
            }
        return json_answer(200, profile)

    def _health(self, _ask: Ask, _bend: Bend | None) -> Answer:
        return json_answer(200, {"healthy": True, "is_logged_in": True})


_OTHER_POOLS = ("direct_dial_credit", "export_credit", "conversation_credit", "ai_credit", "power_up_credit")
_INVALID_KEY = Answer(
    401,
    b"Invalid API key. See https://docs.apollo.io/reference/authentication for how to create one.",
    "text/plain; charset=utf-8",
)
_NO_CREDITS = json_answer(422, {"error": "Insufficient credits. Please upgrade your plan."})


def look_up(world: World, wanted: Mapping[str, Any]) -> tuple[Person | None, bool]:
    """Find the person Apollo's parameters mean; the second value says the name was all there was to go by."""
    if (email := _text(wanted, "email")) and (found := world.by_email(email)):
        return found, False
    if (url := _text(wanted, "linkedin_url")) and (found := world.by_linkedin(url)):
        return found, False
    if (identity := _text(wanted, "id")) and (found := world.by_mark(identity[16:])) and _id(found) == identity:
        return found, False
    employer = {"company": _text(wanted, "organization_name"), "domain": _text(wanted, "domain")}
    if name := _text(wanted, "name"):
        return world.by_name(name, **employer), True
    return world.by_names(_text(wanted, "first_name"), _text(wanted, "last_name"), **employer), True


def _text(wanted: Mapping[str, Any], name: str) -> str:
    value = wanted.get(name)
    return value if isinstance(value, str) else ""


def _parameters(ask: Ask) -> Mapping[str, Any]:
    body = ask.json()
    return {**body, **ask.query} if isinstance(body, dict) else ask.query


def _request_id(number: int) -> int:
    return mix(number ^ 0x5EED) - (1 << 63)


def _traces(number: int) -> Headers:
    return (("x-request-id", f"{mix(number):032x}"), ("x-runtime", f"0.{mix(number) % 900 + 20:03d}"))


def _inaccessible(path: str) -> Answer:
    text = f"This API key is not authorized to access {path[1:]}. Please give it the scope, or use a master key."
    return json_answer(403, {"error": text, "error_code": "API_INACCESSIBLE"})


def _too_many_text(endpoint: str, limit: int, window: str) -> str:
    return (
        f"The maximum number of api calls allowed for {endpoint} is {limit} times per {window}. Please upgrade your "
        "plan from https://app.apollo.io/#/settings/plans/upgrade."
    )


def _too_many(path: str, limit: int, window: str, wait: int, headers: Headers) -> Answer:
    text = _too_many_text(path[1:], limit, window)
    return json_answer(429, {"message": text}, (*headers, ("retry-after", str(wait))))


def _bulk_failure(status: int, code: str, message: str) -> Answer:
    return json_answer(status, {"status": "failed", "error_code": code, "error_message": message})


def _usage_key(path: str) -> str:
    folder, _, last = path[1:].rpartition("/")
    return f'["{folder}", "{last}"]'


def _person(person: Person) -> dict[str, Any]:
    company = person.company
    known = person.email_status != "unavailable"
    return {
        "id": _id(person),
        "first_name": person.first_name,
        "last_name": person.last_name,
        "name": person.name,
        "linkedin_url": f"http://www.linkedin.com/in/{person.slug}",
        "title": person.title,
        "headline": f"{person.title} at {company.name}",
        "email": person.email if known else None,
        "email_status": person.email_status,
        "extrapolated_email_confidence": 0.62 if person.email_status == "extrapolated" else None,
        "photo_url": None,
        "twitter_url": None,
        "github_url": None,
        "facebook_url": None,
        "organization_id": _organization_id(company),
        "employment_history": [_employment(person)],
        "city": company.city,
        "state": company.state or None,
        "country": company.country,
        "contact_id": None,
        "contact": None,
        "revealed_for_current_team": True,
        "organization": _organization(company),
        "is_likely_to_engage": False,
        "show_intent": False,
        "departments": [person.department],
        "subdepartments": [f"{person.function}_{person.seniority}"],
        "functions": [person.function],
        "seniority": person.seniority,
    }


def _found_person(person: Person) -> dict[str, Any]:
    """Show somebody as a search does: whom one can buy, but not how to write to them."""
    flags = ("industry", "city", "state", "country", "revenue", "employee_count")
    return {
        "id": _id(person),
        "first_name": person.first_name,
        "last_name_obfuscated": f"{person.last_name[:2]}***{person.last_name[-1]}",
        "title": person.title,
        "last_refreshed_at": f"{person.since.isoformat()}T08:12:44.101+00:00",
        "has_email": person.email_status != "unavailable",
        "has_city": True,
        "has_state": bool(person.company.state),
        "has_country": True,
        "has_direct_phone": "Yes" if person.phone else "Maybe: please request direct dial via people/bulk_match",
        "organization": {
            "name": person.company.name,
            **{f"has_{flag}": True for flag in flags},
            "has_phone": False,
            "has_zip_code": False,
        },
    }


def _id(person: Person) -> str:
    return f"66f0a1b2c3d4e5f6{person.mark}"


def _employment(person: Person) -> dict[str, Any]:
    mark = person.mark[:4]
    empty = dict.fromkeys(
        ("end_date", "degree", "description", "emails", "grade_level", "kind", "major", "raw_address", "created_at",
         "updated_at")
    )  # fmt: skip
    return {
        "_id": mark,
        "id": mark,
        "key": mark,
        "current": True,
        "title": person.title,
        "organization_id": _organization_id(person.company),
        "organization_name": person.company.name,
        "start_date": person.since.isoformat(),
        **empty,
    }


def _organization_id(company: Company) -> str:
    return f"5f0e1d2c3b4a5968778{company.number:05x}"


@lru_cache(maxsize=16_384)
def _organization(company: Company) -> msgspec.Raw:
    return msgspec.Raw(encode({
        "id": _organization_id(company),
        "name": company.name,
        "website_url": f"http://www.{company.domain}",
        "primary_domain": company.domain,
        "linkedin_url": f"http://www.linkedin.com/company/{company.domain.removesuffix('.example')}",
        "founded_year": company.founded,
        "publicly_traded_symbol": company.ticker,
        "publicly_traded_exchange": company.exchange,
        "industry": company.industry,
        "industries": [company.industry],
        "keywords": [company.industry],
        "estimated_num_employees": company.employees,
        "annual_revenue": float(company.revenue),
        "annual_revenue_printed": _printed(company.revenue),
        "city": company.city,
        "state": company.state or None,
        "postal_code": None,
        "country": company.country,
        "total_funding": company.funding,
        "latest_funding_stage": company.funding_stage,
        "primary_phone": {},
        "phone": None,
        "short_description": f"{company.name} works in {company.industry}.",
        "technology_names": ["Python"],
        "current_technologies": [],
    }))  # fmt: skip


def _printed(money: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if money >= size:
            return f"{money / size:.3g}{letter}"
    return str(money)
