# SPDX-License-Identifier: Apache-2.0
"""Engines: the providers a box has built, their chains, and the model files they load."""
