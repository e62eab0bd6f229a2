# SPDX-License-Identifier: Apache-2.0
"""The language model as the core sees it, over one HTTP client that keeps its connections."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx

from appliance.plugin import (
    ConfigurationError,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    UnavailableError,
)
from trunkline_openai.errors import from_network, from_status
from trunkline_openai.settings import OpenAiSettings
from trunkline_openai.wire import ReplyReader, request_body

_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=60)
_LONGEST_ERROR = 65_536


class OpenAiModel:
    """`LanguageModel` over HTTP.

    Args:
        settings: see there.
    """

    def __init__(self, settings: OpenAiSettings) -> None:
        self._settings = settings
        self._url = f"{settings.base_url}/chat/completions"
        headers = {"Accept": "text/event-stream"}
        if settings.api_key is not None:
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        try:
            trust = ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:
            raise ConfigurationError(
                f"cannot read certificates from {settings.ca_file}: {error}"
            ) from error
        self._client = httpx.AsyncClient(
            headers=headers,
            verify=trust,
            limits=_CONNECTIONS,
            timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
        )
        self.capabilities = LlmCapabilities(
            context_tokens=settings.context_tokens, local=settings.on_premises
        )

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        """Stream a reply; see `appliance.plugin.LanguageModel`. Cancelling closes the connection.

        Raises:
            AuthenticationError: 401, 403.
            ModelNotFoundError: 404.
            RateLimitedError: 429, with what Retry-After says.
            InvalidRequestError: any other 4xx.
            ProviderTimeoutError: 408, 504, or silence.
            UnavailableError: 5xx, no network, a stream that breaks off or is not the API's.
        """
        if self._client.is_closed:
            raise UnavailableError("the language model is closed")
        reader = ReplyReader(sum(len(message.content) for message in request.messages))
        body = request_body(request, self._settings)
        try:
            response = await self._send(body)
            try:
                async for line in _lines(response):
                    for delta in reader.line(line):
                        yield delta
                if _is_json(response):
                    for delta in reader.whole(await response.aread()):
                        yield delta
            finally:
                await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise from_network(error) from error
        for delta in reader.end():
            yield delta

    async def _send(self, body: dict[str, Any]) -> httpx.Response:
        """Return the answer's head, its body unread.

        A kept connection may have been closed by the server in the meantime, which shows only when it is
        used: then the request goes out once more.
        """
        request = self._client.build_request("POST", self._url, json=body)
        try:
            response = await self._client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            request = self._client.build_request("POST", self._url, json=body)
            response = await self._client.send(request, stream=True)
        if response.status_code != httpx.codes.OK:
            try:
                raise from_status(
                    response.status_code, response.headers, await _beginning(response)
                )
            finally:
                await response.aclose()
        return response

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._client.aclose()


def _is_json(response: httpx.Response) -> bool:
    """Whether the server answers as a whole, although it was asked to stream."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.startswith("application/json")


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    if not _is_json(response):
        async for line in response.aiter_lines():
            yield line


async def _beginning(response: httpx.Response) -> bytes:
    """Return the body of an error, but no more of it than an error needs."""
    body = b""
    async for part in response.aiter_bytes():
        body += part
        if len(body) > _LONGEST_ERROR:
            break
    return body
