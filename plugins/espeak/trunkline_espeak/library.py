# SPDX-License-Identifier: Apache-2.0
"""libespeak-ng through ctypes (its `speak_lib.h`), in one worker thread for the whole process.

The library holds its voice and its buffers in global variables, so there is one `Engine` a process,
shared by all providers and counted by `acquire` and `release`.
"""

from __future__ import annotations

import ctypes
import difflib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import espeakng_loader  # type: ignore[import-untyped]
import numpy as np
import structlog

from appliance.plugin import InvalidRequestError, Pcm, UnavailableError

_log = structlog.get_logger(__name__)

SAMPLE_RATE = 22_050
BUFFER_MS = 60
"""Audio between two callbacks: a cancelled synthesis stops after at most so much of it."""

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all is synthesized
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report missing data, do not end the process
_CHARS_UTF8 = 1
_EVENT_END_OF_LIST, _EVENT_WORD = 0, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


class _Event(ctypes.Structure):
    """`espeak_EVENT`."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, slots=True)
class Style:
    """How to speak; the numbers are the library's own parameters.

    `otherwise` is the voice to use when there is no such `voice`: an agent may name one that another
    synthesizer has, and this one stands in for it.
    """

    voice: str
    otherwise: str
    words_per_minute: int
    pitch: int
    pitch_range: int
    volume: int


Sink = Callable[[Pcm, list[tuple[int, int]]], bool]
"""Takes audio and the words that begin, as (character, sample), both from the start of the clause.
Returns False to stop the synthesis. Called in the worker thread."""


class Engine:
    """The library and its only thread."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="espeak")
        self._voice = ""
        self._refused: set[str] = set()
        self._sink: Sink | None = None
        self._failure: Exception | None = None
        self._on_audio = _Callback(self._audio)
        try:
            self._lib = self._worker.submit(self._load).result()
        except BaseException:
            self._worker.shutdown()
            raise

    def _load(self) -> ctypes.CDLL:
        data = espeakng_loader.get_data_path()
        try:
            lib = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            message = f"libespeak-ng cannot be loaded: {error}"
            raise UnavailableError(message, remedy="reinstall espeakng-loader") from error
        rate = lib.espeak_Initialize(_SYNCHRONOUS, BUFFER_MS, data.encode(), _DONT_EXIT)
        if rate != SAMPLE_RATE:
            message = f"eSpeak NG does not start with its data in {data} (result {rate})"
            raise UnavailableError(message, remedy="reinstall espeakng-loader")
        lib.espeak_SetSynthCallback(self._on_audio)
        return lib

    def submit(self, text: str, style: Style, sink: Sink) -> Future[None]:
        """Synthesize one clause in the worker thread.

        Raises (in the future):
            UnavailableError: the library failed.
        """
        return self._worker.submit(self._speak, text, style, sink)

    def check_voice(self, voice: str) -> None:
        """Select a voice.

        Raises:
            InvalidRequestError: no such voice.
        """
        self._worker.submit(self._select, voice).result()

    def close(self) -> None:
        """End the thread. The caller has cancelled what runs."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _speak(self, text: str, style: Style, sink: Sink) -> None:
        try:
            self._select(style.voice)
        except InvalidRequestError as error:
            if style.voice not in self._refused:
                self._refused.add(style.voice)
                _log.warning("unknown voice", error=error.message, spoken_in=style.otherwise)
            self._select(style.otherwise)
        parameters = {
            _RATE: style.words_per_minute,
            _PITCH: style.pitch,
            _RANGE: style.pitch_range,
            _VOLUME: style.volume,
        }
        for parameter, value in parameters.items():
            self._lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode().replace(b"\0", b" ") + b"\0"
        self._sink, self._failure = sink, None
        result = self._lib.espeak_Synth(data, len(data), 0, 1, 0, _CHARS_UTF8, None, None)
        self._sink = None
        if self._failure is not None:
            raise self._failure
        if result != 0:
            raise UnavailableError(f"eSpeak NG failed to synthesize (result {result})")

    def _select(self, voice: str) -> None:
        if voice == self._voice:
            return
        name, _, variant = voice.partition("+")
        known = variants()
        if variant and variant not in known:  # the library would ignore it silently
            near = difflib.get_close_matches(variant, known, n=3) or ["f1", "f3", "m1"]
            message = f"eSpeak NG has no voice variant {variant!r}"
            raise InvalidRequestError(message, remedy=f"for example {', '.join(near)}")
        self._voice = ""
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            message = f"eSpeak NG has no voice {name!r}"
            raise InvalidRequestError(message, remedy="for example en-us, en-gb, de, fr-fr, es")
        self._voice = voice

    def _audio(self, wav: Any, samples: int, events: Any) -> int:
        try:
            words = []
            index = 0
            while (event := events[index]).type != _EVENT_END_OF_LIST:
                if event.type == _EVENT_WORD:
                    words.append((max(0, event.text_position - 1), event.sample))
                index += 1
            if wav and samples:
                pcm = np.ctypeslib.as_array(wav, (samples,)).astype(np.int16)
            else:
                pcm = np.zeros(0, np.int16)
            return 0 if self._sink is not None and self._sink(pcm, words) else 1
        except Exception as error:  # C code cannot carry it: raised when the synthesis is over
            self._failure = error
            return 1


def variants() -> list[str]:
    """Return the names of the voice variants (`f3`, `m1`, `klatt`, ...)."""
    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    return sorted(path.name for path in folder.iterdir())


class _Shared:
    """The process's engine and how many use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engine: Engine | None = None
        self.users = 0


_shared = _Shared()


def acquire() -> Engine:
    """Return the process's engine; give it back with `release`."""
    with _shared.lock:
        if _shared.engine is None:
            _shared.engine = Engine()
        _shared.users += 1
        return _shared.engine


def release() -> None:
    """Give the engine back; the last user's call ends its thread."""
    with _shared.lock:
        _shared.users -= 1
        if _shared.users == 0 and _shared.engine is not None:
            _shared.engine.close()
            _shared.engine = None
