# SPDX-License-Identifier: Apache-2.0
"""Checks of a synthesizer. See `appliance.plugin.speech.TextToSpeech` for the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from itertools import pairwise

import numpy as np

from appliance.plugin.conformance.drive import (
    breaking,
    cancel_quickly,
    collect,
    ends_when_its_source_breaks,
    given,
    loop_stays_free,
    take,
)
from appliance.plugin.conformance.findings import (
    Check,
    NotApplicableError,
    ViolationError,
    check,
    require,
)
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.errors import ProviderError
from appliance.plugin.speech import SpeechChunk, TextToSpeech, TtsRequest, WordMark

LONG_TEXT = (
    "We are open from eight in the morning until six in the evening, from Monday to Friday, "
    "and on Saturday from ten until two; on Sunday and on public holidays we are closed. "
) * 3


async def speech(tts: TextToSpeech, texts: Iterable[str]) -> list[SpeechChunk]:
    """Speak texts one after another; return the audio as it came, and see that its form is right."""
    chunks = await collect(tts.speak(given(texts), TtsRequest(call_id="check")))
    for chunk in chunks:
        pcm = chunk.pcm
        require(
            isinstance(pcm, np.ndarray) and pcm.ndim == 1 and pcm.dtype == np.int16,
            f"a chunk is {getattr(pcm, 'dtype', type(pcm).__name__)} of shape "
            f"{getattr(pcm, 'shape', '?')}, not one row of int16",
        )
    return chunks


def samples(chunks: Sequence[SpeechChunk]) -> int:
    """Return how many samples there are in all."""
    return sum(len(chunk.pcm) for chunk in chunks)


async def use(tts: TextToSpeech, subject: Subject) -> None:
    """Speak two words."""
    await speech(tts, [subject.materials.texts[0]])


@check("a clause becomes audio of a sound length at the rate it states")
async def a_clause_becomes_audio(subject: Subject) -> str:
    """Speech has between 1 and 8 words a second; at a wrong rate it has not."""
    tts: TextToSpeech = subject.provider
    rate, text = tts.capabilities.sample_rate, subject.materials.texts[1]
    require(8000 <= rate <= 48000, f"{rate} Hz")
    chunks = await speech(tts, [text])
    seconds, words = samples(chunks) / rate, len(text.split())
    require(
        words / 8 <= seconds <= words,
        f"{words} words became {seconds:.2f} s of audio at {rate} Hz",
    )
    loudest = max(
        (int(np.abs(one.pcm.astype(np.int32)).max(initial=0)) for one in chunks), default=0
    )
    require(loudest > 300, "the audio is silent")
    return f"{words} words, {seconds:.2f} s, {len(chunks)} chunks at {rate} Hz"


@check("text with nothing to say yields nothing")
async def nothing_to_say(subject: Subject) -> str:
    """Models write lines of dashes; a caller shall not wait for them."""
    for texts in ([], [""], ["  \n"], ["..."], ["-"]):
        count = samples(await speech(subject.provider, texts))
        require(not count, f"{texts!r} became {count} samples")
    return ""


@check("a clause is spoken before the next one is given")
async def audio_comes_before_the_text_ends(subject: Subject) -> str:
    """The model is still writing while the caller already listens."""
    tts: TextToSpeech = subject.provider
    more = asyncio.Event()
    first, second = subject.materials.texts

    async def text() -> AsyncIterator[str]:
        yield first
        await more.wait()
        yield second

    stream = tts.speak(text(), TtsRequest(call_id="check"))
    head = await take(stream, "audio of the first clause while the second is still to come")
    more.set()
    rest = await collect(stream)
    require(samples(rest) > len(head.pcm), "the second clause was not spoken")
    return ""


@check("long text comes in several chunks, if it says that it streams")
async def audio_is_streamed(subject: Subject) -> str:
    """First audio may not wait for the last word."""
    tts: TextToSpeech = subject.provider
    if not tts.capabilities.streaming:
        raise NotApplicableError("it does not stream")
    chunks = await speech(tts, [LONG_TEXT])
    require(len(chunks) > 1, "a text of 100 words came in one chunk")
    return f"{len(chunks)} chunks"


@check("word marks rise and lie inside the text and the audio")
async def word_marks_are_right(subject: Subject) -> str:
    """After barge-in they decide which words the caller heard."""
    tts: TextToSpeech = subject.provider
    texts = subject.materials.texts
    chunks = await speech(tts, texts)
    marks: list[WordMark] = []
    at = 0
    for chunk in chunks:
        at += len(chunk.pcm)
        for mark in chunk.marks:
            require(0 <= mark.sample <= at, f"a mark at sample {mark.sample}; audio so far: {at}")
        marks.extend(chunk.marks)
    require(
        tts.capabilities.word_marks == bool(marks),
        f"{len(marks)} marks came; its capabilities say word_marks={tts.capabilities.word_marks}",
    )
    if not marks:
        raise NotApplicableError("it gives no word marks")
    check_marks(marks, "".join(texts))
    return f"{len(marks)} marks for {sum(len(text.split()) for text in texts)} words"


def check_marks(marks: Sequence[WordMark], text: str) -> None:
    """Raise `ViolationError` where marks do not rise, or do not lie on words of `text`."""
    for one, following in pairwise(marks):
        require(
            one.char < following.char and one.sample <= following.sample,
            f"{following} does not come after {one}",
        )
    for mark in marks:
        require(
            0 <= mark.char < len(text) and not text[mark.char].isspace(),
            f"a mark at character {mark.char} is not at a word of the text",
        )


@check("two streams at once do not mix")
async def streams_do_not_mix(subject: Subject) -> str:
    """One object serves all calls."""
    tts: TextToSpeech = subject.provider
    rate = tts.capabilities.sample_rate
    texts = subject.materials.texts
    alone = [samples(await speech(tts, [text])) / rate for text in texts]
    found = await asyncio.gather(*(speech(tts, [text]) for text in texts))
    together = [samples(chunks) / rate for chunks in found]
    for one, two in zip(alone, together, strict=True):
        require(
            abs(one - two) <= 0.3 * one + 0.1,
            f"alone it spoke for {one:.2f} s, beside another stream for {two:.2f} s",
        )
    return f"{together[0]:.2f} s and {together[1]:.2f} s"


@check("cancelled, it stops within 20 ms and leaves no task")
async def it_is_cancelled_quickly(subject: Subject) -> str:
    """Barge-in: the caller speaks, the agent stops."""
    tts: TextToSpeech = subject.provider

    async def text() -> AsyncIterator[str]:
        yield LONG_TEXT
        await asyncio.Event().wait()

    return await cancel_quickly(lambda: tts.speak(text(), TtsRequest(call_id="check")))


@check("after a cancel the next text is spoken whole")
async def it_recovers_from_cancel(subject: Subject) -> str:
    """Nothing of the cancelled speech may be heard in the next."""
    tts: TextToSpeech = subject.provider
    text = subject.materials.texts[1]
    before = samples(await speech(tts, [text]))
    with suppress(NotApplicableError, ViolationError):  # how fast it stops is another check
        await it_is_cancelled_quickly.body(subject)
    after = samples(await speech(tts, [text]))
    require(abs(after - before) <= 0.3 * before, f"{after} samples instead of {before}")
    return ""


@check("an unknown voice is spoken in another one, or is a ProviderError")
async def an_unknown_voice_is_no_surprise(subject: Subject) -> str:
    """An agent file may name a voice of another machine."""
    tts: TextToSpeech = subject.provider
    wanted = TtsRequest(call_id="check", voice="no-such-voice-7f3a")
    try:
        await collect(tts.speak(given([subject.materials.texts[0]]), wanted))
    except ProviderError as error:
        return type(error).__name__
    except Exception as error:
        raise ViolationError(f"it raised {type(error).__name__}: {error}") from error
    return "spoken in another voice"


@check("text that breaks off with an error ends the stream")
async def a_broken_source_ends_it(subject: Subject) -> str:
    """The model failed in mid-sentence; the core wants to know."""
    tts: TextToSpeech = subject.provider
    text = breaking([subject.materials.texts[0]])
    return await ends_when_its_source_breaks(tts.speak(text, TtsRequest(call_id="check")))


@check("the event loop is never blocked longer than 20 ms")
async def the_loop_stays_free(subject: Subject) -> str:
    """A frame of every call leaves each 20 ms."""
    tts: TextToSpeech = subject.provider
    return await loop_stays_free(lambda: speech(tts, [LONG_TEXT]))


CHECKS: tuple[Check, ...] = (
    a_clause_becomes_audio,
    nothing_to_say,
    audio_comes_before_the_text_ends,
    audio_is_streamed,
    word_marks_are_right,
    streams_do_not_mix,
    it_is_cancelled_quickly,
    it_recovers_from_cancel,
    an_unknown_voice_is_no_surprise,
    a_broken_source_ends_it,
    the_loop_stays_free,
)
