# SPDX-License-Identifier: Apache-2.0
"""The starter recognizer from nothing: voices, features, model, training, export, evaluation."""
