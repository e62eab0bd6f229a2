# SPDX-License-Identifier: Apache-2.0
"""The voices that speak the training and test sentences.

Two formant/unit synthesizers, driven in process through ctypes: libespeak-ng (from the
`espeakng-loader` wheel, the library the product's own espeak plugin uses) in all its English
accents and most of its voice variants, and the four-megabyte flite voices of Debian's `flite`.
A part of both is held out: it is never heard in training and measures unseen speakers.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espeakng_loader  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly  # type: ignore[import-untyped]

SAMPLE_RATE = 16_000

# The wheel's accents; the two held out are never heard in training.
TRAIN_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029")
HELD_OUT_ACCENTS = ("en-us-nyc", "en-gb-x-gbcwmd")

# Effects rather than people (whispering, robots, monsters) are left out of both sides.
_EFFECTS = {
    "AnxiousAndy", "Demonic", "UniRobot", "anikaRobot", "croak", "fast", "Tweaky", "whisper",
    "whisperf", "Mr serious", "Storm", "kaukovalta",
} | {f"robosoft{n}" for n in ("", 2, 3, 4, 5, 6, 7, 8)}  # fmt: skip

TRAIN_FLITE = ("slt", "awb", "kal16", "kal")
HELD_OUT_FLITE = ("rms",)

# Heard more often than the rest, so that a demo's caller can rely on them.
FAVOURITES = ("en-us+f3", "en-us+m3", "en-us", "en+f2")


@dataclass(frozen=True)
class Speech:
    """One request: `voice` is `espeak:ACCENT[+VARIANT]` or `flite:NAME`.

    `rate` is words a minute for espeak and a duration factor for flite; `pitch` and `spread`
    (0..99) are espeak's own scales and, for flite, map onto the mean and deviation of F0.
    """

    voice: str
    text: str
    rate: float
    pitch: int = 50
    spread: int = 50


def data_path() -> Path:
    """The wheel's own voice and dictionary data."""
    return Path(str(espeakng_loader.get_data_path()))


def variants(held_out: bool) -> list[str]:
    """Names of espeak's voice variants on one side of the split (every seventh is held out)."""
    names = sorted(p.name for p in (data_path() / "voices" / "!v").iterdir())
    kept = [n for n in names if n not in _EFFECTS]
    favourites = {v.partition("+")[2] for v in FAVOURITES}
    return [n for i, n in enumerate(kept) if (i % 7 == 3 and n not in favourites) == held_out]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """libespeak-ng in this process. Not thread-safe: the library holds one global voice."""

    _RATE, _PITCH, _RANGE = 1, 3, 4
    _UTF8 = 1

    def __init__(self, data: Path | None = None) -> None:
        self._lib: Any = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        path = str(data or data_path()).encode()
        self._source_rate: int = self._lib.espeak_Initialize(2, 0, path, 0)
        if self._source_rate <= 0:
            raise RuntimeError(f"espeak-ng could not start with its data in {path.decode()}")
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._parts: list[NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._collect)
        self._lib.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def _collect(self, wave: Any, count: int, _events: Any) -> int:
        if wave and count > 0:
            self._parts.append(np.ctypeslib.as_array(wave, shape=(count,)).copy())
        return 0

    def _select(self, voice: str) -> None:
        if voice == self._voice:
            return
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self._voice = voice

    def speak(self, request: Speech) -> NDArray[np.float32]:
        """Speech at 16 kHz, float32 in -1..1."""
        self._select(request.voice.partition(":")[2])
        for parameter, value in (
            (self._RATE, round(request.rate)),
            (self._PITCH, request.pitch),
            (self._RANGE, request.spread),
        ):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._parts = []
        text = request.text.encode()
        self._lib.espeak_Synth(text, len(text) + 1, 0, 0, 0, self._UTF8, None, None)
        self._lib.espeak_Synchronize()
        if not self._parts:
            return np.zeros(0, np.float32)
        return _to_16k(np.concatenate(self._parts), self._source_rate)

    def phonemes(self, text: str, voice: str = "en-us") -> list[str]:
        """The sentence's phonemes as espeak's own mnemonics, stress marks removed."""
        self._select(voice)
        buffer = ctypes.c_char_p(text.encode())
        pointer = ctypes.cast(ctypes.pointer(buffer), ctypes.POINTER(ctypes.c_void_p))
        out: list[str] = []
        while pointer.contents.value:
            # Mode: bits 8-23 hold the separator character, bits 0-3 zero ask for mnemonics.
            clause = self._lib.espeak_TextToPhonemes(pointer, self._UTF8, ord("_") << 8)
            for word in clause.decode().split():
                out += [p for p in (s.strip("',%=_:|") for s in word.split("_")) if p]
        return out


class _FliteWave(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _FliteVoice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


_F0_MEAN = {"slt": 165.0, "awb": 130.0, "rms": 105.0, "kal": 105.0, "kal16": 105.0}  # Hz


class Flite:
    """Debian's flite voices in this process."""

    def __init__(self) -> None:
        self._lib: Any = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
        for name in ("usenglish", "cmulex"):
            ctypes.CDLL(f"libflite_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
        self._lib.flite_init()
        self._lib.flite_text_to_wave.restype = ctypes.POINTER(_FliteWave)
        self._lib.flite_text_to_wave.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
        self._lib.delete_wave.argtypes = (ctypes.POINTER(_FliteWave),)
        self._lib.feat_set_float.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float)
        self._voices: dict[str, Any] = {}

    def _voice(self, name: str) -> Any:
        if name not in self._voices:
            library: Any = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
            register = getattr(library, f"register_cmu_us_{name}")
            register.restype = ctypes.POINTER(_FliteVoice)
            self._voices[name] = register(None)
        return self._voices[name]

    def speak(self, request: Speech) -> NDArray[np.float32]:
        """Speech at 16 kHz, float32 in -1..1."""
        name = request.voice.partition(":")[2]
        voice = self._voice(name)
        features = voice.contents.features
        mean = _F0_MEAN[name] * (0.7 + 0.6 * request.pitch / 100)
        for key, value in (
            (b"duration_stretch", request.rate),
            (b"int_f0_target_mean", mean),
            (b"int_f0_target_stddev", 4.0 + 0.2 * request.spread),
        ):
            self._lib.feat_set_float(features, key, value)
        wave = self._lib.flite_text_to_wave(request.text.encode(), voice)
        try:
            head = wave.contents
            samples = np.ctypeslib.as_array(head.samples, shape=(head.num_samples,)).copy()
            return _to_16k(samples, head.sample_rate)
        finally:
            self._lib.delete_wave(wave)


def _to_16k(samples: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    wave = samples.astype(np.float32) / 32768
    if rate == SAMPLE_RATE:
        return np.asarray(wave, dtype=np.float32)
    divisor = int(np.gcd(rate, SAMPLE_RATE))
    out = resample_poly(wave, SAMPLE_RATE // divisor, rate // divisor)
    return np.asarray(out, dtype=np.float32)


class Speakers:
    """Both synthesizers behind one call."""

    def __init__(self, data: Path | None = None) -> None:
        self.espeak = Espeak(data)
        self._flite: Flite | None = None

    def speak(self, request: Speech) -> NDArray[np.float32]:
        """Speech at 16 kHz; flite is loaded on first use, so espeak alone needs only its wheel."""
        if request.voice.startswith("espeak:"):
            return self.espeak.speak(request)
        if self._flite is None:
            self._flite = Flite()
        return self._flite.speak(request)
