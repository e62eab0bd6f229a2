# SPDX-License-Identifier: Apache-2.0
"""G.711 against the values that the recommendation itself prints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from appliance.audio import g711
from appliance.audio.level import peak_dbfs

# ITU-T G.711, tables 2a and 1a: quantized values of the positive half, at segment ends,
# in units of the 14 bit (mu-law) and 13 bit (A-law) scale.
ULAW_VALUES = {0xFF: 0, 0xFE: 2, 0xF0: 30, 0xEF: 33, 0xE0: 93, 0xDF: 99, 0xD0: 219, 0xCF: 231}
ULAW_VALUES |= {0xC0: 471, 0xBF: 495, 0xB0: 975, 0xAF: 1023, 0xA0: 1983, 0x9F: 2079, 0x90: 3999}
ULAW_VALUES |= {0x8F: 4191, 0x80: 8031}
ALAW_VALUES = {0x80: 1, 0x8F: 31, 0x90: 33, 0x9F: 63, 0xA0: 66, 0xAF: 126, 0xB0: 132, 0xBF: 252}
ALAW_VALUES |= {0xC0: 264, 0xCF: 504, 0xD0: 528, 0xDF: 1008, 0xE0: 1056, 0xEF: 2016}
ALAW_VALUES |= {0xF0: 2112, 0xFF: 4032}  # before the even bits are inverted

ALL = np.arange(256, dtype=np.uint8)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


def test_mu_law_octets_decode_to_the_values_of_table_2() -> None:
    octets = np.array(list(ULAW_VALUES), np.uint8)
    values = np.array(list(ULAW_VALUES.values()))
    assert np.array_equal(g711.decode_ulaw(octets), values * 4)
    assert np.array_equal(g711.decode_ulaw(bytes(octets & 0x7F)), -values * 4)


def test_a_law_octets_decode_to_the_values_of_table_1() -> None:
    octets = np.array(list(ALAW_VALUES), np.uint8)
    values = np.array(list(ALAW_VALUES.values()))
    assert np.array_equal(g711.decode_alaw(bytes(octets ^ 0x55)), values * 8)
    assert np.array_equal(g711.decode_alaw(bytes(octets ^ 0xD5)), -values * 8)


@pytest.mark.parametrize(
    ("octets", "encode", "decode", "below_overload_db"),
    [
        ("1E0B0B1E9E8B8B9E", g711.encode_ulaw, g711.decode_ulaw, 3.17),
        ("34212134B4A1A1B4", g711.encode_alaw, g711.decode_alaw, 3.14),
    ],
    ids=["mu-law, table 6", "A-law, table 5"],
)
def test_the_periodic_sequence_is_a_1_khz_sine_at_0_dbm0(
    octets: str, encode: Callable[..., g711.Octets], decode: Callable[..., np.ndarray],
    below_overload_db: float,
) -> None:  # fmt: skip
    wire = np.frombuffer(bytes.fromhex(octets) * 100, np.uint8)
    pcm = decode(wire)
    assert np.array_equal(encode(pcm), wire)
    spectrum = np.abs(np.fft.rfft(pcm.astype(float)))
    assert int(spectrum.argmax()) * 8000 / pcm.size == 1000
    assert spectrum.max() > 50 * np.delete(spectrum, spectrum.argmax()).max()
    overload = 8159 * 4 if decode is g711.decode_ulaw else 4096 * 8
    amplitude = 2 * spectrum.max() / pcm.size
    assert 20 * np.log10(overload / amplitude) == pytest.approx(below_overload_db, abs=0.02)


def test_every_octet_survives_a_round_trip() -> None:
    assert np.array_equal(g711.encode_alaw(g711.decode_alaw(ALL)), ALL)
    again = g711.encode_ulaw(g711.decode_ulaw(ALL))
    assert np.array_equal(np.delete(again, 0x7F), np.delete(ALL, 0x7F))
    assert again[0x7F] == 0xFF  # mu-law has two zeros, PCM one


@pytest.mark.parametrize("law", ["ulaw", "alaw"])
def test_every_sample_keeps_its_order_and_its_size_within_four_percent_where_speech_lies(
    law: str,
) -> None:
    encode, decode = getattr(g711, f"encode_{law}"), getattr(g711, f"decode_{law}")
    back = decode(encode(EVERY_SAMPLE)).astype(int)
    assert (np.diff(back) >= 0).all()
    error = np.abs(back - EVERY_SAMPLE)
    loud = np.abs(EVERY_SAMPLE.astype(int)) > 1000
    assert (error[loud] / np.abs(EVERY_SAMPLE[loud].astype(int))).max() < 0.04
    assert error[np.abs(EVERY_SAMPLE.astype(int)) < 32].max() <= 16


def test_octets_may_come_as_bytes_and_silence_is_silent() -> None:
    assert g711.decode_ulaw(b"\xff\xff").tolist() == [0, 0]
    assert peak_dbfs(g711.decode_alaw(b"\xd5\x55")) < -70
    assert g711.encode_ulaw(np.zeros(3, np.int16)).tolist() == [0xFF] * 3
    assert g711.encode_alaw(np.zeros(3, np.int16)).tolist() == [0xD5] * 3
