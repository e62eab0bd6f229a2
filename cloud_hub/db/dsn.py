# SPDX-License-Identifier: Apache-2.0
"""Connection strings, as people write them and as SQLAlchemy wants them."""

from __future__ import annotations

from sqlalchemy import URL, make_url


def sqlalchemy_url(dsn: str) -> URL:
    """The address with the driver of this project (psycopg 3), whichever it named.

    Raises:
        ValueError: it is not the address of a PostgreSQL.
    """
    url = make_url(dsn)
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError(f"{url.get_backend_name()} is not PostgreSQL: use postgresql://...")
    return url.set(drivername="postgresql+psycopg")


def libpq_url(dsn: str) -> str:
    """The address as libpq's programs and psycopg itself read it, password included."""
    return sqlalchemy_url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)
