# SPDX-License-Identifier: Apache-2.0
"""The hub: many tenants, many boxes. It imports of the appliance only what crosses the wire."""
