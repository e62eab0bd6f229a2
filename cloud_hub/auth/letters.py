# SPDX-License-Identifier: Apache-2.0
"""What the hub writes to people."""

from __future__ import annotations

from cloud_hub.auth.mail import Letter

_END = "\n\nIf you did not expect this, do nothing: without the link nothing happens.\n"


def invitation(to: str, organization: str, role: str, link: str, days: int) -> Letter:
    """Return the letter that offers a place."""
    text = (
        f"You are invited to {organization} on Trunkline, as {role}.\n\n"
        f"Take the place here, within {days} days:\n\n{link}"
    )
    return Letter("invitation", to, "You are invited to Trunkline", text + _END)


def verification(to: str, link: str, hours: int) -> Letter:
    """Return the letter by which somebody proves that an address is theirs."""
    text = (
        "An account on Trunkline was opened with this address.\n\n"
        f"Confirm that it is yours, within {hours} hours, then sign in:\n\n{link}"
    )
    return Letter("verification", to, "Confirm your e-mail address", text + _END)


def already_there(to: str, sign_in: str) -> Letter:
    """Return the letter to somebody who signs up, or is signed up, a second time."""
    text = (
        "Somebody, perhaps you, wanted to open an account on Trunkline with this address. There is\n"
        f"one already. Sign in, or ask for a new password, at\n\n{sign_in}"
    )
    return Letter("already there", to, "You have an account already", text + _END)


def new_password(to: str, link: str, minutes: int) -> Letter:
    """Return the letter with a link to choose a new password."""
    text = (
        "A new password was asked for, for your account on Trunkline.\n\n"
        f"Choose it here, within {minutes} minutes:\n\n{link}"
    )
    return Letter("new password", to, "Choose a new password", text + _END)
