# SPDX-License-Identifier: Apache-2.0
"""What boxes send: from the broker into PostgreSQL, each fact exactly once and in order."""
