# SPDX-License-Identifier: Apache-2.0
"""Logging for the whole box: structured, with call ids, and without what callers say.

An event at INFO or above never carries caller data: texts become their length, addresses and numbers
become a keyed hash that is stable within one run, so that lines can be correlated but not resolved.
DEBUG events keep both. Secrets are masked at every level.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import sys
from collections import deque
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor

TEXT_KEYS = frozenset(
    {
        "arguments",
        "content",
        "digit",
        "digits",
        "dtmf",
        "greeting",
        "heard",
        "messages",
        "prompt",
        "reply",
        "said",
        "text",
        "transcript",
        "turn_text",
    }
)
"""Keys that hold words of a call: only their length is logged."""

NUMBER_KEYS = frozenset(
    {
        "called",
        "caller",
        "caller_id",
        "contact",
        "customer",
        "far_end",
        "from_",
        "name_spoken",
        "number",
        "remote",
        "remote_name",
        "target",
    }
)
"""Keys that hold who called whom: only a hash is logged."""

_SECRET_KEY = re.compile(
    r"(^|_)(password|passwd|secret|api_?key|authorization|credential|token|private_key)s?$"
)
_COUNTS = frozenset({"tokens", "prompt_tokens", "completion_tokens", "reply_tokens"})
_URI_CREDENTIALS = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
REMEMBERED = 2000
_recent: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
_QUIET = ("httpx", "httpcore", "huggingface_hub", "filelock", "asyncio", "grpc")
_SALT = secrets.token_bytes(16)


def setup(
    level: str = "info",
    style: Literal["console", "json"] | str = "console",  # noqa: PYI051 - says which there are
    stream: Any = None,
) -> None:
    """Send all logs, those of libraries included, to `stream` (standard error by default).

    Args:
        level: `debug`, `info`, `warning` or `error`.
        style: `console` for people, `json` for machines: one object a line.
        stream: any text file.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    out = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                _remember,
                *_renderer(style, colors=getattr(out, "isatty", lambda: False)()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


@contextmanager
def call_context(call_id: str) -> Iterator[None]:
    """Add `call_id` to every event logged inside, in this task and those that it starts."""
    with structlog.contextvars.bound_contextvars(call_id=call_id):
        yield


def recent(lines: int) -> list[str]:
    """Return the newest log entries since the start, without what callers say: one JSON object each."""
    entries = list(_recent)[-lines:]
    return [json.dumps(entry, default=str, ensure_ascii=False) for entry in entries]


def _remember(logger: Any, method: str, event: EventDict) -> EventDict:
    # DEBUG events hold callers' words and stay out; so do tracebacks, which could.
    if str(event.get("level", method)) != "debug":
        _recent.append({key: value for key, value in event.items() if key != "exc_info"})
    return event


def redact(logger: Any, method: str, event: EventDict) -> EventDict:
    """Take secrets out of an event, and caller data unless it is a DEBUG event."""
    debug = str(event.get("level", method)) == "debug"
    for key, value in list(event.items()):
        event[key] = _clean(key, value, debug=debug)
    return event


def _clean(key: str, value: Any, *, debug: bool) -> Any:
    name = key.lower()
    if name not in _COUNTS and _SECRET_KEY.search(name):
        return "(hidden)"
    if not debug and value not in (None, "") and name in TEXT_KEYS | NUMBER_KEYS:
        return _hashed(str(value)) if name in NUMBER_KEYS else _length(value)
    if isinstance(value, MutableMapping):
        return {k: _clean(str(k), v, debug=debug) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", one, debug=debug) for one in value]
    return _URI_CREDENTIALS.sub("(hidden)", value) if isinstance(value, str) else value


def _length(value: Any) -> str:
    return f"({len(value)} long)" if hasattr(value, "__len__") else "(hidden)"


def _hashed(value: str) -> str:
    return "#" + hashlib.blake2b(value.encode(), key=_SALT, digest_size=5).hexdigest()


def _renderer(style: str, *, colors: bool) -> list[Processor]:
    if style == "json":
        # Without local variables: they hold what callers say.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(default=str),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        )
    ]
