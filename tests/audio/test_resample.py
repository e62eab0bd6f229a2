# SPDX-License-Identifier: Apache-2.0
"""Resampling: length, alignment, cleanness, delay, independence of chunk sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audio.level import rms_dbfs
from appliance.audio.resample import Resampler, resample
from appliance.audio.types import Pcm

RATES = (8000, 11025, 16000, 22050, 24000, 44100, 48000)


def sine(hz: float, rate: int, seconds: float = 1.0, amplitude: float = 16000) -> Pcm:
    at = np.arange(int(rate * seconds)) / rate
    return np.rint(amplitude * np.sin(2 * np.pi * hz * at)).astype(np.int16)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("inwards", [True, False])
def test_a_tone_keeps_its_length_place_and_purity(rate: int, inwards: bool) -> None:
    from_rate, to_rate = (rate, 16000) if inwards else (16000, rate)
    out = resample(sine(1000, from_rate), from_rate, to_rate)
    assert abs(out.size - to_rate) <= 1
    middle = slice(to_rate // 4, to_rate * 3 // 4)
    at = np.arange(out.size)[middle] / to_rate
    waves = np.stack([np.sin(2000 * np.pi * at), np.cos(2000 * np.pi * at)], axis=1)
    (a, b), *_ = np.linalg.lstsq(waves, out[middle].astype(float))
    assert np.hypot(a, b) == pytest.approx(16000, rel=0.001)
    assert abs(np.arctan2(b, a) / (2000 * np.pi)) < 0.00025
    noise = out[middle] - waves @ [a, b]
    assert 20 * np.log10(16000 / np.sqrt(2) / noise.std()) > 80


@pytest.mark.parametrize("from_rate", [22050, 24000, 48000])
def test_what_the_lower_rate_cannot_carry_is_filtered_out(from_rate: int) -> None:
    above = sine(9500, from_rate)
    assert rms_dbfs(resample(above, from_rate, 16000)[2000:-2000]) < rms_dbfs(above) - 80


@pytest.mark.parametrize("from_rate", RATES)
def test_fed_in_real_time_it_never_withholds_more_than_31_ms(from_rate: int) -> None:
    resampler = Resampler(from_rate, 16000)
    given_ms = got_ms = 0.0
    for n in range(100):
        step = from_rate * (n + 1) // 100 - from_rate * n // 100
        given_ms += step * 1000 / from_rate
        got_ms += resampler.process(np.zeros(step, np.int16)).size / 16
        assert given_ms - got_ms <= 31


@settings(max_examples=40, deadline=None)
@given(
    rates=st.tuples(st.sampled_from(RATES), st.sampled_from(RATES)),
    sizes=st.lists(st.integers(0, 1500), max_size=12),
    seed=st.integers(0, 1000),
)
def test_the_result_does_not_depend_on_where_chunks_end(
    rates: tuple[int, int], sizes: list[int], seed: int
) -> None:
    pcm = np.random.default_rng(seed).integers(-9000, 9000, sum(sizes)).astype(np.int16)
    resampler = Resampler(*rates)
    parts = [resampler.process(part) for part in np.split(pcm, np.cumsum(sizes))]
    parts.append(resampler.flush())
    whole = resample(pcm, *rates)
    assert abs(whole.size - pcm.size * rates[1] / rates[0]) <= 2
    joined = np.concatenate(parts)
    assert np.array_equal(joined, whole)


def test_after_a_flush_a_new_stream_begins() -> None:
    resampler = Resampler(22050, 16000)
    first = np.concatenate([resampler.process(sine(440, 22050)), resampler.flush()])
    second = np.concatenate([resampler.process(sine(440, 22050)), resampler.flush()])
    assert np.array_equal(first, second)


def test_equal_rates_pass_through_untouched() -> None:
    pcm = sine(440, 16000)
    resampler = Resampler(16000, 16000)
    assert resampler.process(pcm) is pcm
    assert resampler.flush().size == 0


def test_a_view_with_gaps_is_resampled_like_a_copy() -> None:
    stereo = np.stack([sine(440, 8000), sine(700, 8000)], axis=1)
    left = resample(stereo[:, 0], 8000, 16000)
    assert np.array_equal(left, resample(stereo[:, 0].copy(), 8000, 16000))
