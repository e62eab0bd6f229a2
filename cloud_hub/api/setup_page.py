# SPDX-License-Identifier: Apache-2.0
"""The one page of the API: where the first owner's link leads. The token is in the fragment, so it
reaches no log and no `Referer`.
"""

from __future__ import annotations

import base64
import hashlib
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
  const answer = await fetch("/v1/setup", {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
  });
  const found = await answer.json();
  if (answer.ok) { history.replaceState(null, "", "/setup"); form.hidden = true; }
  said.textContent = answer.ok ? "You are the owner of " + found.organizations[0].name + "."
    : [found.detail, ...found.errors.map((each) => each.pointer + ": " + each.message)].join("; ");
});
"""
_PAGE: Final = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Set up this hub</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body><main><h1>Set up this hub</h1><form>
<label>Your name <input name="name" required autocomplete="name"></label>
<label>E-mail <input name="email" type="email" required autocomplete="username"></label>
<label>Password, 12 characters or more
<input name="password" type="password" minlength="12" required autocomplete="new-password"></label>
<label>Organization <input name="organization" required autocomplete="organization"></label>
<button>Become the owner</button></form><p role="status"></p></main>
<script>{_SCRIPT}</script></body></html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY: Final = (
    f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/setup", operation_id="show_set_up_page")
async def show_set_up_page() -> HTMLResponse:
    """Show the form for the first owner."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})
