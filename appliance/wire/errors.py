# SPDX-License-Identifier: Apache-2.0
"""What decoding a message may raise.

WireError
├── MalformedError            it is not what the protocol says
└── UnsupportedVersionError   its major version is not known here
"""


class WireError(ValueError):
    """Base of everything that this package raises on purpose."""


class MalformedError(WireError):
    """The message is not JSON, too large, or lacks what its type needs."""


class UnsupportedVersionError(WireError):
    """The sender speaks a major version that is not known here.

    Args:
        got: the version in the message.
        supported: the major versions that are known.
    """

    def __init__(self, got: str, supported: tuple[int, ...]) -> None:
        known = ", ".join(map(str, supported))
        super().__init__(f"protocol version {got} is not known here; known major versions: {known}")
        self.got = got
        self.supported = supported
