# SPDX-License-Identifier: Apache-2.0
"""The pages that links lead to: the first owner's, and those of letters. One form each.

The token is in the link's fragment, so it reaches no log and no `Referer`, and a mail server that follows
links to look at them uses nothing up.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_STYLE: Final = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 10vh auto; padding: 0 1rem; }
label { display: block; margin: 1rem 0 0; } input { width: 100%; font: inherit; padding: .4rem; }
button { margin: 1.5rem 0; font: inherit; padding: .5rem 1rem; }
"""
_SCRIPT: Final = """
const form = document.querySelector("form"), said = document.querySelector("[role=status]");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = Object.fromEntries(new FormData(form));
  body.token = location.hash.slice(1);
  const answer = await fetch(form.dataset.to, {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
  });
  const found = answer.status === 204 ? {} : await answer.json();
  if (answer.ok) { history.replaceState(null, "", location.pathname); form.hidden = true; }
  said.textContent = answer.ok ? form.dataset.done
    : [found.detail, ...found.errors.map((each) => each.pointer + ": " + each.message)].join("; ");
});
"""
_NAME: Final = '<label>Your name <input name="name" required autocomplete="name"></label>'
_EMAIL: Final = (
    '<label>E-mail <input name="email" type="email" required autocomplete="username"></label>'
)
_CHOOSE: Final = """<label>Password, 12 characters or more
<input name="password" type="password" minlength="12" required autocomplete="new-password"></label>"""
_ORGANIZATION: Final = (
    '<label>Organization <input name="organization" required autocomplete="organization"></label>'
)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY: Final = (
    f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _page(title: str, fields: str, button: str, to: str, done: str) -> HTMLResponse:
    content = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body><main><h1>{escape(title)}</h1><form data-to="{to}" data-done="{escape(done)}">
{fields}
<button>{escape(button)}</button></form><p role="status"></p></main>
<script>{_SCRIPT}</script></body></html>
"""
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY})


@router.get("/setup", operation_id="show_set_up_page")
async def show_set_up_page() -> HTMLResponse:
    """Show the form for the first owner."""
    fields = f"{_NAME}\n{_EMAIL}\n{_CHOOSE}\n{_ORGANIZATION}"
    done = "You are the owner of this hub."
    return _page("Set up this hub", fields, "Become the owner", "/v1/setup", done)


@router.get("/link/invitation", operation_id="show_invitation_page")
async def show_invitation_page() -> HTMLResponse:
    """Show the form for somebody who was invited and has no account yet."""
    fields, to = f"{_NAME}\n{_CHOOSE}", "/v1/join/new-account"
    return _page("Join your organization", fields, "Join", to, "You have joined.")


@router.get("/link/password", operation_id="show_password_page")
async def show_password_page() -> HTMLResponse:
    """Show the form for a new password."""
    done = "Your password is changed. Sign in with it."
    return _page("Choose a new password", _CHOOSE, "Change it", "/v1/password/reset", done)


@router.get("/link/email", operation_id="show_email_page")
async def show_email_page() -> HTMLResponse:
    """Show the button that proves an address: a click, so that no program that follows links does it."""
    done = "Your address is confirmed. You can sign in."
    return _page("Confirm your e-mail address", "", "It is mine", "/v1/email/verify", done)
