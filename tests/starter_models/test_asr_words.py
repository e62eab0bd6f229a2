# SPDX-License-Identifier: Apache-2.0
"""The shipped recognizer, as the box runs it, over a telephone line: what it hears and what not.

Sentences and, in the second test, voices were never trained. The voices are eSpeak NG's, so that nothing but
its wheel is needed; the recipe's own evaluation has more voices and more sentences.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from trunkline_espeak.library import SAMPLE_RATE as ESPEAK_RATE
from trunkline_espeak.library import Engine, Style
from trunkline_faster_whisper.settings import FasterWhisperSettings
from trunkline_faster_whisper.whisper import Utterance, Whisper
from trunkline_starter_models import pack_dir

from appliance.audio.g711 import decode_ulaw, encode_ulaw
from appliance.audio.resample import resample
from appliance.audio.types import SAMPLE_RATE, Pcm

SENTENCES = Path(__file__).with_name("asr_sentences.txt").read_text(encoding="utf-8").splitlines()
DEMO_VOICE = "en-us+f3"
TRAINED = (
    DEMO_VOICE,
    "en-us",
    "en-us+m3",
    "en+f2",
    "en-gb-scotland+m7",
    "en-029+f1",
    "en-gb-x-rp+Alex",
)
UNTRAINED = ("en-us+m4", "en-us-nyc+f4", "en+klatt4", "en-gb-x-gbcwmd+steph3", "en-gb-x-rp+david")
LARGEST = 12_000_000


@pytest.fixture(scope="module")
def model() -> Iterator[Whisper]:
    whisper = Whisper(pack_dir() / "asr", FasterWhisperSettings(), threads=1)
    yield whisper
    whisper.close()


@pytest.fixture(scope="module")
def espeak() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def telephone(pcm: Pcm, rate: int) -> Pcm:
    """What the box hears of it: G.711 mu-law at 8 kHz, with a third of a second of quiet around."""
    line = resample(pcm, rate, 8_000)
    quiet = np.zeros(8_000 // 3, np.int16)
    return resample(
        decode_ulaw(encode_ulaw(np.concatenate((quiet, line, quiet)))), 8_000, SAMPLE_RATE
    )


def said(espeak: Engine, text: str, voice: str, rng: random.Random) -> Pcm:
    parts: list[Pcm] = []

    def keep(pcm: Pcm, _words: list[tuple[int, int]]) -> bool:
        parts.append(pcm.copy())
        return True

    style = Style(
        voice=voice,
        otherwise="en-us",
        words_per_minute=rng.randint(140, 190),
        pitch=rng.randint(35, 65),
        pitch_range=rng.randint(35, 65),
        volume=100,
    )
    espeak.submit(text, style, keep).result(timeout=20)
    return telephone((np.concatenate(parts) * rng.uniform(0.2, 1.0)).astype(np.int16), ESPEAK_RATE)


def words(text: str) -> list[str]:
    text = text.lower().replace("p.m.", "pm").replace("a.m.", "am")
    return re.sub(r"[^a-z' ]+", " ", text).split()


def errors(truth: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(truth, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def error_rate(model: Whisper, spoken: list[tuple[str, Pcm]]) -> float:
    wrong = total = 0
    for text, pcm in spoken:
        truth = words(text)
        wrong += errors(truth, words(model.recognize([Utterance(pcm, "en")])[0].text))
        total += len(truth)
    return wrong / total


def spoken(espeak: Engine, sentences: list[str], voices: tuple[str, ...]) -> list[tuple[str, Pcm]]:
    rng = random.Random(3)
    return [(text, said(espeak, text, rng.choice(voices), rng)) for text in sentences]


def test_untrained_sentences_in_the_training_voices_have_at_most_a_tenth_of_the_words_wrong(
    model: Whisper, espeak: Engine
) -> None:
    assert error_rate(model, spoken(espeak, SENTENCES, TRAINED)) <= 0.10


def test_the_demo_callers_voice_is_understood(model: Whisper, espeak: Engine) -> None:
    assert error_rate(model, spoken(espeak, SENTENCES, (DEMO_VOICE,))) <= 0.10


def test_voices_never_trained_have_at_most_a_quarter_of_the_words_wrong(
    model: Whisper, espeak: Engine
) -> None:
    assert error_rate(model, spoken(espeak, SENTENCES, UNTRAINED)) <= 0.25


def tone(hz: float, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


@pytest.mark.parametrize("seconds", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("sound", ["silence", "hiss", "loud noise", "dial tone", "key", "breath"])
def test_sounds_that_are_not_speech_give_no_words(
    model: Whisper, sound: str, seconds: float
) -> None:
    count = int(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(5).standard_normal(count)
    wave = {
        "silence": np.zeros(count),
        "hiss": 0.003 * noise,
        "loud noise": 0.2 * noise,
        "dial tone": 0.2 * (tone(350, seconds) + tone(440, seconds)),
        "key": 0.2
        * (tone(770, seconds) + tone(1336, seconds))
        * (np.arange(count) < SAMPLE_RATE // 4),
        "breath": 0.1 * noise * np.hanning(count),
    }[sound]
    pcm = telephone((wave * 32767).astype(np.int16), SAMPLE_RATE)
    assert words(model.recognize([Utterance(pcm, "en")])[0].text) == []


def test_the_model_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in (pack_dir() / "asr").iterdir()) < LARGEST
