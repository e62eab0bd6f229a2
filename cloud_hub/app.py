# SPDX-License-Identifier: Apache-2.0
"""The application for people and programs: `create_app` builds one from settings and an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.middleware.cors import CORSMiddleware

from cloud_hub.api import (
    agents,
    appliances,
    audit,
    calls,
    commands,
    deployments,
    document,
    health,
    invitations,
    keys,
    members,
    organizations,
    problems,
    recordings,
    session,
    setup_page,
    teams,
    usage,
)
from cloud_hub.api.browser import CSRF_HEADER
from cloud_hub.api.door import ORGANIZATION_HEADER, authorize
from cloud_hub.api.middleware import Guard
from cloud_hub.api.services import Services
from cloud_hub.api.settings import ApiSettings
from cloud_hub.auth.mail import MailSettings
from cloud_hub.auth.operations import RULES
from cloud_hub.auth.passwords import Passwords
from cloud_hub.fleet.recordings import RecordingStore

PREFIX = "/v1"
ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    session.router,
    organizations.router,
    members.router,
    invitations.router,
    teams.router,
    keys.router,
    agents.router,
    deployments.router,
    appliances.router,
    commands.router,
    calls.router,
    recordings.router,
    usage.router,
    audit.router,
)


class UnruledRouteError(RuntimeError):
    """A route has no line in the table of operations: it must not be served."""


def create_app(
    settings: ApiSettings,
    engine: AsyncEngine,
    *,
    passwords: Passwords | None = None,
    recordings: RecordingStore | None = None,
    mail: MailSettings | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        settings: of the API.
        engine: of the role `trunkline_api`; whoever made it disposes of it.
        passwords: how passwords are hashed, when not at the default cost.
        recordings: where the sound is, when not as the environment says.
        mail: the operator's mail server, when not as the environment says.

    Raises:
        UnruledRouteError: a route is not in the table of operations.
        MailSettingsError: there is a mail server, but its settings do not suffice.
    """
    services = Services.build(settings, engine, passwords, recordings, mail)
    app = FastAPI(
        title="Trunkline hub",
        version="1",
        description=document.ABOUT,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.methods_at = methods_at
    app.include_router(setup_page.router, dependencies=[Depends(authorize)])
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX, dependencies=[Depends(authorize)])
    for route in api_routes():
        if route.operation_id not in RULES:
            raise UnruledRouteError(f"{route.path} is not in cloud_hub.auth.operations")
    problems.install(app)
    app.openapi = lambda: document.describe(app)  # type: ignore[method-assign]
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_credentials=True,
            allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                CSRF_HEADER,
                ORGANIZATION_HEADER,
            ],
            expose_headers=["ETag", "Location", "Retry-After", "X-Request-ID"],
            max_age=600,
        )
    app.add_middleware(Guard, addresses=services.limits.addresses, secure=settings.secure)
    return app


def api_routes() -> Iterator[APIRoute]:
    """Return all routes of the API."""
    return _routes((setup_page.router, *ROUTERS))


def methods_at(path: str) -> list[str]:
    """Return the methods that a path knows, in all its routes together."""
    routers = ROUTERS if path.startswith(f"{PREFIX}/") else (setup_page.router,)
    below = path.removeprefix(PREFIX)
    found = {
        method
        for route in _routes(routers)
        if route.path_regex.match(below)
        for method in route.methods or ()
    }
    return sorted(found)


def _routes(routers: Iterable[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route
