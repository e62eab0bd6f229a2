# SPDX-License-Identifier: Apache-2.0
"""Settings of the `openai` language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from appliance.plugin import Settings


class OpenAiSettings(Settings):
    """Settings of the `openai` language model."""

    model: str = Field(min_length=1, description="Name of the model, as the server knows it.")
    base_url: str = Field(
        default="https://api.openai.com/v1",
        description="Address of the API, up to and without `/chat/completions`.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="Key, sent as a bearer token. Empty for servers that ask for none.",
    )
    on_premises: bool = Field(
        default=False,
        description="The server stands on these premises: what is said does not leave them.",
    )
    context_tokens: int = Field(
        default=0, ge=0, description="Size of the model's context; 0 when unknown."
    )
    connect_timeout_s: float = Field(
        default=3.0, gt=0, description="Longest time to reach the server."
    )
    timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="Longest silence of the server, before the first word and between two.",
    )
    token_limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="How the server calls the bound of a reply; newer OpenAI models take the second name.",
    )
    send_temperature: bool = Field(
        default=True, description="Send the agent's temperature; some models refuse any."
    )
    send_usage_option: bool = Field(
        default=True,
        description="Ask for token counts (`stream_options`); some servers refuse the option.",
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="More fields for each request, such as `reasoning_effort`. They win over ours.",
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of certificates to trust instead of the system's."
    )

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            message = "base_url begins with http:// or https://"
            raise ValueError(message)
        return url.rstrip("/")
