# SPDX-License-Identifier: Apache-2.0
"""The REST interface `/v1`: one module a resource."""
