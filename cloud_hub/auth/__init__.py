# SPDX-License-Identifier: Apache-2.0
"""People, keys and sessions: who is asking, and what they may do."""
