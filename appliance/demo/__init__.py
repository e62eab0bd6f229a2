# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a box with the starter models, and a caller that dials it over SIP."""
