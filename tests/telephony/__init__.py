# SPDX-License-Identifier: GPL-3.0-or-later
"""Telephone tests: the SIP transport against SIPp, Asterisk and itself."""
