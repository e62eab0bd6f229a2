# SPDX-License-Identifier: Apache-2.0
"""How the tables came to be. A revision that was released is never edited: append a new one."""
