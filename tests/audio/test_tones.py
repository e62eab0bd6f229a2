# SPDX-License-Identifier: Apache-2.0
"""Tones and levels."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio import tones
from appliance.audio.level import FLOOR_DB, peak_dbfs, rms_dbfs
from appliance.audio.types import Pcm, silence


def strongest(pcm: Pcm, count: int) -> list[int]:
    """Return the strongest frequencies in Hz, to the nearest 5 Hz."""
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size), 16000 // 5))
    found = []
    for _ in range(count):
        peak = int(spectrum.argmax())
        found.append(peak * 5)
        spectrum[max(0, peak - 6) : peak + 7] = 0
    return sorted(found)


def test_levels_are_measured_against_full_scale() -> None:
    square = np.tile(np.array([32767, -32768], np.int16), 100)
    assert rms_dbfs(square) == pytest.approx(0, abs=0.001)
    assert peak_dbfs(square) == 0
    assert rms_dbfs(tones.tone((1000,), 1000, -30)) == pytest.approx(-30, abs=0.1)
    assert peak_dbfs(tones.tone((1000,), 1000, -30)) == pytest.approx(-27, abs=0.1)
    for pcm in (silence(100), silence(0)):
        assert rms_dbfs(pcm) == peak_dbfs(pcm) == FLOOR_DB


def test_each_key_sounds_its_two_frequencies_for_its_time_and_then_pauses() -> None:
    keys = "123A456B789C*0#D"
    pcm = tones.dtmf(keys, on_ms=200, off_ms=80)
    assert pcm.size == len(keys) * 280 * 16
    for key, part in zip(keys, np.split(pcm, len(keys)), strict=True):
        low, high = strongest(part[:3200], 2)
        assert abs(low - tones.DTMF[key][0]) <= 5
        assert abs(high - tones.DTMF[key][1]) <= 5
        assert not part[3200:].any()
    assert (tones.DTMF["5"], tones.DTMF["#"]) == ((770, 1336), (941, 1477))


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no such key: E, X"):
        tones.dtmf("1xE")
    assert tones.dtmf("").size == 0
    assert np.array_equal(tones.dtmf("d"), tones.dtmf("D"))


def test_ringback_sounds_and_pauses_in_its_country_s_rhythm() -> None:
    pcm = tones.cadence(tones.RINGBACK_US, 7000)
    assert pcm.size == 7 * 16000
    assert strongest(pcm[:16000], 2) == [440, 480]
    assert not pcm[2 * 16000 : 6 * 16000].any()
    assert np.array_equal(pcm[6 * 16000 :], pcm[:16000])
    assert strongest(tones.cadence(tones.RINGBACK_EUROPE, 900), 1) == [425]


def test_tones_begin_and_end_without_a_click() -> None:
    pcm = tones.tone((1000,), 100, -10).astype(int)
    inside = np.abs(np.diff(pcm[200:-200])).max()
    assert np.abs(np.diff(pcm, prepend=0, append=0)).max() <= inside
    assert np.abs(pcm[:8]).max() < np.abs(pcm).max() / 8


def test_comfort_noise_is_as_quiet_as_asked_and_the_same_for_the_same_seed() -> None:
    noise = tones.comfort_noise(1000, -60, seed=4)
    assert rms_dbfs(noise) == pytest.approx(-60, abs=0.5)
    assert np.array_equal(noise, tones.comfort_noise(1000, -60, seed=4))
    assert not np.array_equal(noise, tones.comfort_noise(1000, -60, seed=5))
