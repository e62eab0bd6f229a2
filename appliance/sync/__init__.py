# SPDX-License-Identifier: Apache-2.0
"""The box's side of the link to its hub: what to send, in which order, again and again until the hub has it.

`sender` decides and does no I/O, `link` moves the bytes over MQTT in a thread of its own, `hub` follows the
box's identity. Calls never wait for any of it: what happens in a call goes to the store, and the link reads
it there.
"""
