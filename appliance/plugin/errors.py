# SPDX-License-Identifier: Apache-2.0
"""What a provider may raise. One tree; the core decides from the class whether to retry, fall back or stop.

ProviderError
├── ConfigurationError     settings are wrong: a person must change them; never retried
├── AuthenticationError    the credentials were refused; never retried
├── InvalidRequestError    this request can never succeed (bad schema, prompt too long); not retried
├── ModelNotFoundError     a model file is missing or damaged; the message says how to get it
├── RateLimitedError       try again after `retry_after_s`, or fall back now
├── UnavailableError       network down, server 5xx, engine crashed: retry once, then fall back
└── ProviderTimeoutError   no answer in time: fall back
"""


class ProviderError(Exception):
    """Base of everything that a provider raises on purpose.

    Args:
        message: What happened, for a person; names no caller data.
        remedy: What that person can do about it, or "".
    """

    retryable = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class ConfigurationError(ProviderError):
    """The settings cannot work; raised by `build`, never during a call."""


class AuthenticationError(ProviderError):
    """The provider refused the credentials."""


class InvalidRequestError(ProviderError):
    """The request itself is at fault; sending it again cannot help."""


class ModelNotFoundError(ProviderError):
    """A model file is missing, or its checksum differs."""


class RateLimitedError(ProviderError):
    """The provider asked for fewer requests."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(ProviderError):
    """The provider cannot be reached or failed inside."""

    retryable = True


class ProviderTimeoutError(ProviderError):
    """The provider gave no answer in the time it had."""

    retryable = True
