# SPDX-License-Identifier: Apache-2.0
"""Audio without call logic: companding, resampling, playout, levels, tones, recording.

Works alone, in a REPL, with numpy and soxr. Audio is mono `Pcm` at 16 kHz unless a docstring says
otherwise.
"""
