# SPDX-License-Identifier: Apache-2.0
"""One call from ring to record: a sans-I/O core and the asyncio shell that feeds it."""
