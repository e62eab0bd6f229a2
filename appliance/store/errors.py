# SPDX-License-Identifier: Apache-2.0
"""What the store may raise. Each says what happened, where, and what a person can do.

StoreError
├── StoreLockedError     another process holds the file
├── StoreFullError       the disk is full or broken; facts wait in memory and are tried again
├── StoreVersionError    the file was made by a newer version of the software
├── StoreClosedError     used after `close`
└── SlotTakenError       the appointment's time is taken
"""


class StoreError(Exception):
    """Base of everything that the store raises on purpose.

    Args:
        message: What happened; names no caller data.
        remedy: What a person can do about it, or "".
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class StoreLockedError(StoreError):
    """Another process has the store open for writing."""


class StoreFullError(StoreError):
    """The disk takes no more, or fails."""


class StoreVersionError(StoreError):
    """A newer version of the software made this file."""


class StoreClosedError(StoreError):
    """The store was closed."""


class SlotTakenError(StoreError):
    """Somebody has an appointment at that time."""
