# SPDX-License-Identifier: Apache-2.0
"""What Alembic runs: the revisions, on the connection that `cloud_hub.db.migrate` hands over."""

from __future__ import annotations

from alembic import context

from cloud_hub.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
)
with context.begin_transaction():
    context.run_migrations()
