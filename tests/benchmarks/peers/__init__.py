# SPDX-License-Identifier: Apache-2.0
"""`./run bench-peers`: Trunkline, Pipecat and LiveKit Agents as whole agents, side by side.

All of them get the same audio, 20 ms frames of 16 kHz over a socket of this machine, from the same
callers, and answer with the same model files. What differs is what they are. See docs/benchmarks.md.
"""
