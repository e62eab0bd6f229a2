# SPDX-License-Identifier: Apache-2.0
"""The tools that every box has: end the call, book into the box's calendar, call a webhook."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

import httpx

from appliance.call.agent import BookAppointment, EndCall, Webhook
from appliance.plugin import (
    ToolCapabilities,
    ToolContext,
    ToolResult,
    ToolSpec,
    UnavailableError,
)
from appliance.store import SlotTakenError, Store, StoreError

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME = re.compile(r"^([01]?\d|2[0-3]):([0-5]\d)$")
_MAX_RESPONSE = 64 * 1024


class EndCallTool:
    """Ends the call when all that was said has been heard."""

    capabilities = ToolCapabilities()

    def __init__(self, config: EndCall) -> None:
        self.spec = ToolSpec(config.name, config.description, {"type": "object", "properties": {}})

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Ask for the end of the call."""
        del arguments, context
        return ToolResult({"ok": True}, end_call=True)

    async def aclose(self) -> None:
        """Nothing is held open."""


class BookAppointmentTool:
    """Books a slot within the opening hours.

    Args:
        config: name and opening hours.
        store: keeps the appointments.
        calendar: which of its calendars: the agent's name.
        now: local time.
    """

    capabilities = ToolCapabilities(changes_the_world=True, timeout_s=5.0)

    def __init__(
        self,
        config: BookAppointment,
        store: Store,
        calendar: str,
        now: Callable[[], datetime],
    ) -> None:
        text = {"type": "string", "minLength": 1, "maxLength": 100}
        self.spec = ToolSpec(
            config.name,
            config.description,
            {
                "type": "object",
                "properties": {
                    "name": {**text, "description": "the caller's name"},
                    "day": {**text, "description": "weekday, today, tomorrow or YYYY-MM-DD"},
                    "time": {**text, "description": "HH:MM, 24 hours"},
                },
                "required": ["name", "day", "time"],
                "additionalProperties": False,
            },
        )
        self._hours = config.hours
        self._store = store
        self._calendar = calendar
        self._now = now

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Book, or say why not: `closed`, `taken`, `past`, `unknown day`, `unknown time`."""
        name, spoken_day, spoken_time = (arguments[key] for key in ("name", "day", "time"))
        match = _TIME.match(spoken_time.strip())
        if match is None:
            return _not_booked("unknown time")
        at = time(int(match[1]), int(match[2]))
        now = self._now()
        day = resolve_day(spoken_day, at, now)
        if day is None:
            return _not_booked("unknown day")
        if datetime.combine(day, at, now.tzinfo) < now:
            return _not_booked("past")
        hours = self._hours.get(_WEEKDAYS[day.weekday()].capitalize())
        if hours is None or not hours[0] <= at < hours[1]:
            return _not_booked("closed")
        try:
            await self._store.book(
                name=name,
                on=day,
                at=at,
                call_id=context.call_id,
                idempotency_key=context.idempotency_key,
                calendar=self._calendar,
            )
        except SlotTakenError:
            return _not_booked("taken")
        except StoreError as error:
            raise UnavailableError(f"the calendar cannot be written: {error}") from error
        return ToolResult({"ok": True, "day": spoken_day, "time": f"{at:%H:%M}", "name": name})

    async def aclose(self) -> None:
        """Nothing is held open."""


def _not_booked(reason: str) -> ToolResult:
    return ToolResult({"ok": False, "reason": reason})


def resolve_day(spoken: str, at: time, now: datetime) -> date | None:
    """Return the date that a caller means: the next such weekday, today if the time is still to come."""
    word = spoken.strip().lower().removeprefix("next ").removeprefix("on ").strip()
    if word == "today":
        return now.date()
    if word == "tomorrow":
        return now.date() + timedelta(days=1)
    if word in _WEEKDAYS:
        ahead = (_WEEKDAYS.index(word) - now.weekday()) % 7
        if ahead == 0 and at <= now.time():
            ahead = 7
        return now.date() + timedelta(days=ahead)
    try:
        return date.fromisoformat(word)
    except ValueError:
        return None


class WebhookTool:
    """Sends the arguments to an HTTP service and gives its JSON answer to the model.

    GET sends them as the query, POST and PUT as a JSON body. The `Idempotency-Key` header is the same
    for a repeated attempt.

    Args:
        config: from the agent's file.
        client: shared HTTP client.
    """

    def __init__(self, config: Webhook, client: httpx.AsyncClient) -> None:
        self.spec = ToolSpec(config.name, config.description, config.parameters)
        self.capabilities = ToolCapabilities(
            changes_the_world=config.changes_the_world, timeout_s=config.timeout_s, local=False
        )
        self._config = config
        self._client = client

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Call the service.

        Raises:
            UnavailableError: no connection, a status other than 2xx, or an answer that is not JSON.
        """
        headers = {k: v.get_secret_value() for k, v in self._config.headers.items()}
        headers["Idempotency-Key"] = context.idempotency_key
        get = self._config.method == "GET"
        try:
            response = await self._client.request(
                self._config.method,
                str(self._config.url),
                params=dict(arguments) if get else None,
                json=None if get else dict(arguments),
                headers=headers,
                timeout=self._config.timeout_s,
                follow_redirects=False,
            )
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"the service cannot be reached: {type(error).__name__}"
            ) from error
        if not response.is_success:
            raise UnavailableError(f"the service answered {response.status_code}")
        if len(response.content) > _MAX_RESPONSE:
            raise UnavailableError("the service's answer is too long")
        try:
            content = response.json()
        except ValueError as error:
            raise UnavailableError("the service's answer is not JSON") from error
        return ToolResult(content if isinstance(content, dict) else {"result": content})

    async def aclose(self) -> None:
        """The client belongs to the box."""
