# SPDX-License-Identifier: Apache-2.0
"""What the hub remembers: tables, who may see which row, migrations, and an embedded PostgreSQL."""
