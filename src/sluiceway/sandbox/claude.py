"""Anthropic's Messages API, imitated: grounded summaries in the shape asked for, with usage that adds up."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sluiceway.sandbox.compose import Facts, fill
from sluiceway.sandbox.seeded import key_of, mix
from sluiceway.sandbox.wire import encode, json_answer, judge_key

if TYPE_CHECKING:
    from sluiceway.sandbox.wire import Answer, Ask, Bend, Headers
    from sluiceway.sandbox.world import World

MODELS = (
    "claude-haiku-5-5", "claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-sonnet-5-5", "claude-sonnet-5",
    "claude-opus-5-5", "claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6", "claude-opus-4-5",
    "claude-fable-5-1",
)  # fmt: skip
VERSIONS = ("2023-06-01", "2026-10-21")
MAX_BODY = 32 << 20
_KNOWN_FIELDS = {
    "model", "max_tokens", "messages", "system", "stop_sequences", "tools", "tool_choice", "thinking", "output_config",
    "metadata", "service_tier", "stream", "temperature", "top_p", "top_k",
}  # fmt: skip
_SAMPLING = ("temperature", "top_p", "top_k")
_CHARACTERS_PER_TOKEN = 4
_LIMITS = {"requests": 100_000, "tokens": 500_000_000, "input-tokens": 400_000_000, "output-tokens": 100_000_000}
_TYPES = {429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error"}
_TEXTS = {429: "This request would exceed your organization's rate limit", 529: "Overloaded", 504: "Request timed out"}


class _Refused(Exception):  # noqa: N818 - it carries a refusal, it is not a failure of ours
    def __init__(self, status: int, kind: str, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.status, self.kind, self.text, self.code = status, kind, text, code


class Claude:
    """The provider `claude`."""

    name = "claude"

    def __init__(self, world: World) -> None:
        self._seed = world.seed
        self._budget = Budget()

    def credential(self, ask: Ask) -> str:
        """Read the key, from either of the headers Anthropic accepts."""
        return ask.headers.get("x-api-key") or ask.headers.get("authorization", "").removeprefix("Bearer ")

    def answer(self, ask: Ask, bend: Bend | None) -> Answer:
        """Decide the answer to one request."""
        key = self.credential(ask)
        try:
            _admit(key, judge_key(key) or bend, ask)
            return self._served(ask, bend)
        except _Refused as refused:
            return _error(ask.number, refused.status, refused.kind, refused.text, code=refused.code)

    def refuse(self, status: int, retry_after: int | None) -> Answer:
        """Word a refusal that has nothing to do with the request."""
        headers = () if retry_after is None else (("retry-after", str(retry_after)),)
        text = _TEXTS.get(status, "Internal server error")
        return _error(status, status, _TYPES.get(status, "api_error"), text, headers=headers)

    def _served(self, ask: Ask, bend: Bend | None) -> Answer:
        match ask.method, ask.path:
            case "GET", "/v1/models":
                return _models()
            case "POST", "/v1/messages":
                return self._message(ask, bend)
            case _:
                raise _Refused(404, "not_found_error", "Not found")

    def _message(self, ask: Ask, bend: Bend | None) -> Answer:
        wanted = _checked(ask)
        written = _write(wanted, bend, mix(key_of(self._seed, "claude") ^ ask.number))
        written["usage"]["input_tokens"] = into = max(1, len(ask.body) // _CHARACTERS_PER_TOKEN)
        self._budget.spend(into, written["usage"]["output_tokens"])
        message = {
            "id": f"msg_01{mix(ask.number):020d}",
            "type": "message",
            "role": "assistant",
            "model": wanted["model"],
            "stop_sequence": None,
            **written,
        }
        headers = (*self._budget.headers(), ("request-id", _request_id(ask.number)), _ORGANIZATION)
        return json_answer(200, message, headers)


class Budget:
    """What is left of the minute's four allowances, as the twelve headers tell it."""

    def __init__(self) -> None:
        self._minute = 0
        self._used = dict.fromkeys(_LIMITS, 0)
        self._reset = ""

    def spend(self, into: int, out: int) -> None:
        """Take one request and its tokens out of the minute's allowances."""
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute, self._used = minute, dict.fromkeys(_LIMITS, 0)
            end = datetime.fromtimestamp(minute * 60, UTC) + timedelta(minutes=1)
            self._reset = f"{end:%Y-%m-%dT%H:%M:%SZ}"
        for name, amount in (("requests", 1), ("tokens", into + out), ("input-tokens", into), ("output-tokens", out)):
            self._used[name] += amount

    def headers(self) -> Headers:
        """Write the twelve headers."""
        lines: list[tuple[str, str]] = []
        for name, limit in _LIMITS.items():
            start = f"anthropic-ratelimit-{name}"
            left = max(0, limit - self._used[name])
            lines += (
                (f"{start}-limit", str(limit)),
                (f"{start}-remaining", str(left)),
                (f"{start}-reset", self._reset),
            )
        return tuple(lines)


_ORGANIZATION = ("anthropic-organization-id", "00000000-0000-4000-8000-000000000001")


def _admit(key: str, bend: Bend | None, ask: Ask) -> None:
    match bend:
        case "bad-key" | "revoked":
            raise _Refused(401, "authentication_error", "invalid x-api-key")
        case "no-scope":
            raise _Refused(403, "permission_error", "Your API key does not have permission to use this resource")
        case "out-of-credits":
            raise _out_of_credits(key, ask.number)
    if ask.headers.get("anthropic-version") not in VERSIONS:
        raise _Refused(400, "invalid_request_error", f"anthropic-version: must be one of {', '.join(VERSIONS)}")


def _out_of_credits(key: str, number: int) -> _Refused:
    """Wear one of the three faces of an empty account; a key may name the status it wants."""
    wanted = next((status for status in (400, 402, 429) if str(status) in key), None)
    match wanted or (400, 402, 429)[number % 3]:
        case 400:
            text = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
            return _Refused(400, "invalid_request_error", text)
        case 402:
            return _Refused(402, "billing_error", "There is a problem with your billing information")
        case _:
            text = "This request would exceed your organization's spend limit"
            return _Refused(429, "rate_limit_error", text, "enforced_spend_limit_reached")


def _checked(ask: Ask) -> dict[str, Any]:
    """Refuse what the real one would refuse, and give the body if there is nothing to refuse."""
    if len(ask.body) > MAX_BODY:
        raise _Refused(413, "request_too_large", "Request exceeds the maximum size")
    wanted = ask.json()
    if not isinstance(wanted, dict):
        raise _invalid("The request body is not valid JSON")
    for complaint in _complaints(wanted, ask.headers.get("anthropic-version", "")):
        if complaint:
            raise _invalid(complaint)
    if wanted["model"] not in MODELS:
        raise _Refused(404, "not_found_error", f"model: {wanted['model']}")
    return wanted


def _complaints(wanted: dict[str, Any], version: str) -> tuple[str, ...]:
    unknown = next((key for key in wanted if key not in _KNOWN_FIELDS), "")
    sampling = next((key for key in _SAMPLING if key in wanted), "") if version == VERSIONS[-1] else ""
    tokens = wanted.get("max_tokens")
    return (
        f"{unknown}: Extra inputs are not permitted" if unknown else "",
        f"{sampling}: not supported under anthropic-version {version}" if sampling else "",
        "" if isinstance(wanted.get("model"), str) else "model: Field required",
        "" if isinstance(tokens, int) and tokens > 0 else "max_tokens: Field required",
        _message_complaint(wanted.get("messages")),
        _shape_complaint(wanted),
        _thinking_complaint(wanted),
        "stream: the sandbox does not imitate streaming" if wanted.get("stream") else "",
        _open_object(_schema_of(wanted), "output_config.format.schema"),
    )


def _message_complaint(messages: object) -> str:
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        return "messages: at least one message is required"
    if messages[-1].get("role") != "user":
        return "This model does not support assistant message prefill. The conversation must end with a user message."
    return ""


def _shape_complaint(wanted: dict[str, Any]) -> str:
    for key in ("thinking", "tool_choice", "output_config"):
        if not isinstance(wanted.get(key, {}), dict):
            return f"{key}: Input should be an object"
    tools = wanted.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and "name" in tool for tool in tools):
        return "tools: Input should be a list of tools"
    return ""


def _thinking_complaint(wanted: dict[str, Any]) -> str:
    thinking = wanted.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") in ("adaptive", "disabled"):
        return ""
    manual = "-4-5" in str(wanted.get("model"))
    return "" if manual else 'thinking.type: "enabled" is not supported for this model; use "adaptive"'


def _open_object(schema: object, where: str) -> str:
    """Complain about the first object in a schema which does not rule out further properties."""
    if isinstance(schema, list):
        return next((found for each in schema if (found := _open_object(each, where))), "")
    if not isinstance(schema, dict):
        return ""
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false"
    return next((found for key, each in schema.items() if (found := _open_object(each, f"{where}.{key}"))), "")


def _schema_of(wanted: dict[str, Any]) -> dict[str, Any] | None:
    config = wanted.get("output_config")
    form = config.get("format") if isinstance(config, dict) else None
    schema = form.get("schema") if isinstance(form, dict) else None
    return schema if isinstance(schema, dict) else None


def _write(wanted: dict[str, Any], bend: Bend | None, luck: int) -> dict[str, Any]:
    """Write the answer's content, with why it stopped and what it used."""
    if bend == "refusal":
        details = {"type": "refusal", "category": None, "explanation": "The request was declined."}
        return {"content": [], "stop_reason": "refusal", "stop_details": details, "usage": _usage(3)}
    thinks = wanted.get("thinking", {}).get("type") != "disabled" and luck % 2 == 0
    thoughts = 20 + luck % 60 if thinks else 0
    facts = Facts(_prompt(wanted))
    block, reason, tokens = _block(wanted, facts, bend == "ungrounded", wanted["max_tokens"] - thoughts)
    thinking = [{"type": "thinking", "thinking": "", "signature": f"{luck:032x}"}] if thinks else []
    return {"content": [*thinking, block], "stop_reason": reason, "usage": _usage(thoughts + tokens)}


def _block(wanted: dict[str, Any], facts: Facts, ungrounded: bool, allowed: int) -> tuple[dict[str, Any], str, int]:
    """Compose the one block that answers: a tool's arguments if one was forced, else a text."""
    if (tool := _forced_tool(wanted)) is not None:
        arguments = _filled(tool.get("input_schema", {}), facts, ungrounded)
        block = {"type": "tool_use", "id": "toolu_01Sandbox", "name": tool["name"], "input": arguments}
        return block, "tool_use", _tokens(encode(arguments).decode())
    text, reason = _fitted(_text(wanted, facts, ungrounded), allowed)
    return {"type": "text", "text": text}, reason, _tokens(text)


def _text(wanted: dict[str, Any], facts: Facts, ungrounded: bool) -> str:
    schema = _schema_of(wanted)
    if schema is not None:
        return encode(_filled(schema, facts, ungrounded)).decode()
    return facts.summary() + (f" {facts.invented()}" if ungrounded else "")


def _filled(schema: dict[str, Any], facts: Facts, ungrounded: bool) -> Any:
    """Fill a schema, or refuse one that makes no sense, in which anything may be of any type."""
    try:
        return fill(schema, facts, ungrounded)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _invalid("output_config.format.schema: not a valid JSON schema") from error


def _fitted(text: str, tokens: int) -> tuple[str, str]:
    """Cut a text that is longer than allowed, and say whether it was."""
    if _tokens(text) <= tokens:
        return text, "end_turn"
    return text[: max(0, tokens) * _CHARACTERS_PER_TOKEN], "max_tokens"


def _prompt(wanted: dict[str, Any]) -> str:
    """Give the text of the last message, whether written plainly or in blocks."""
    content = wanted["messages"][-1].get("content", "")
    if isinstance(content, list):
        return "\n".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return str(content)


def _forced_tool(wanted: dict[str, Any]) -> dict[str, Any] | None:
    choice, tools = wanted.get("tool_choice", {}), wanted.get("tools", [])
    if choice.get("type") == "any":
        return tools[0] if tools else None
    return next(
        (tool for tool in tools if choice.get("type") == "tool" and tool.get("name") == choice.get("name")), None
    )


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _usage(output: int) -> dict[str, Any]:
    return {
        "input_tokens": 0,
        "output_tokens": output,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "server_tool_use": None,
        "service_tier": "standard",
    }


def _models() -> Answer:
    rows = [
        {"type": "model", "id": model, "display_name": model, "created_at": "2026-01-01T00:00:00Z"} for model in MODELS
    ]
    return json_answer(200, {"data": rows, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})


def _invalid(text: str) -> _Refused:
    return _Refused(400, "invalid_request_error", text)


def _request_id(number: int) -> str:
    return f"req_01{mix(number ^ 0xC1A0DE):020d}"


def _error(number: int, status: int, kind: str, text: str, *, code: str | None = None, headers: Headers = ()) -> Answer:
    error: dict[str, Any] = {"type": kind, "message": text}
    if code is not None:
        error["details"] = {"error_code": code}
    request_id = _request_id(number)
    content = {"type": "error", "error": error, "request_id": request_id}
    return json_answer(status, content, (*headers, ("request-id", request_id)))
