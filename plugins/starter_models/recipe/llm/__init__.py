# SPDX-License-Identifier: Apache-2.0
"""The recipe of the starter language model: dialogues, training, export, scores."""
