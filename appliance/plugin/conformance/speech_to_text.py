# SPDX-License-Identifier: Apache-2.0
"""Checks of a recognizer. See `appliance.plugin.speech.SpeechToText` for the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress

import numpy as np

from appliance.plugin.conformance import sound
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
from appliance.plugin.speech import Flush, Pcm, SpeechToText, SttRequest, Transcript

Audio = Pcm | Flush
TOLERANCE_S = 0.25
"""How far `audio_s` may be off: recognizers count in windows of their own."""


def rate_of(stt: SpeechToText) -> int:
    """Return the rate the core would resample to."""
    return stt.capabilities.sample_rates[0]


def spoken(subject: Subject, stt: SpeechToText, seconds: float, seed: int = 1) -> list[Audio]:
    """Return `seconds` of speech in 20 ms pieces: the sample if there is one, else babble."""
    rate = rate_of(stt)
    pcm = subject.speech(rate)
    if pcm is None:
        pcm = sound.babble(seconds, rate, seed=seed)
    repeated = np.resize(pcm, round(seconds * rate)) if len(pcm) else pcm
    return list(sound.frames(repeated.astype(np.int16), rate))


async def transcripts(stt: SpeechToText, audio: Iterable[Audio]) -> list[Transcript]:
    """Feed audio as fast as it is taken; return everything it answers."""
    return await collect(stt.transcribe(given(audio), SttRequest(call_id="check")))


async def use(stt: SpeechToText, subject: Subject) -> None:
    """Transcribe a little."""
    await transcripts(stt, [*spoken(subject, stt, 0.6), Flush()])


@check("every flush gets one final, before more audio is needed")
async def a_flush_gets_a_final(subject: Subject) -> str:
    """The speaker is silent and waits: the final may not wait for the next word."""
    stt: SpeechToText = subject.provider
    more = asyncio.Event()

    async def audio() -> AsyncIterator[Audio]:
        for _ in range(2):
            for piece in spoken(subject, stt, 1.0):
                yield piece
            yield Flush()
            await more.wait()
            more.clear()

    stream = stt.transcribe(audio(), SttRequest(call_id="check"))
    for number in (1, 2):
        item = await take(stream, f"a final for flush {number}")
        while not item.is_final:
            item = await take(stream, f"a final for flush {number}")
        more.set()
    rest = await collect(stream)
    extra = [one for one in rest if one.is_final]
    require(not extra, f"{len(extra)} more finals came, though no audio followed the last flush")
    return ""


@check("audio that ends without a flush gets one final")
async def the_end_gets_a_final(subject: Subject) -> str:
    """A caller who hangs up in mid-sentence was still heard."""
    stt: SpeechToText = subject.provider
    found = await transcripts(stt, spoken(subject, stt, 1.0))
    finals = [one for one in found if one.is_final]
    require(len(finals) == 1, f"{len(finals)} finals came")
    require(found[-1].is_final, "an interim transcript came after the final")
    return ""


@check("an interim never follows the final that covers it, and audio_s never decreases")
async def the_order_holds(subject: Subject) -> str:
    """Whoever shows the text must never have to take a final back."""
    stt: SpeechToText = subject.provider
    audio: list[Audio] = []
    for seed in (1, 2, 3):
        audio += [*spoken(subject, stt, 1.0, seed), Flush()]
    found = await transcripts(stt, audio)
    require(sum(one.is_final for one in found) == 3, "three flushes did not get three finals")
    check_order(found)
    interims = sum(not one.is_final for one in found)
    require(
        stt.capabilities.interim_results or not interims,
        "it yields interim results, its capabilities deny it",
    )
    return f"{interims} interims"


def check_order(found: Sequence[Transcript]) -> None:
    """Raise `ViolationError` where transcripts are out of order."""
    covered = last = 0.0
    for item in found:
        require(item.audio_s >= last - 1e-6, f"audio_s fell from {last:.2f} to {item.audio_s:.2f}")
        last = item.audio_s
        if item.is_final:
            covered = item.audio_s
        else:
            require(
                item.audio_s > covered or not covered,
                f"an interim at {item.audio_s:.2f} s came after the final at {covered:.2f} s",
            )
        require(
            item.confidence is None or 0 <= item.confidence <= 1,
            f"confidence {item.confidence} is not within 0..1",
        )


@check("audio_s counts seconds at its first sample rate")
async def the_rate_is_right(subject: Subject) -> str:
    """A recognizer fed at the wrong rate hears chipmunks, and nobody is told."""
    stt: SpeechToText = subject.provider
    rates = stt.capabilities.sample_rates
    require(bool(rates) and all(8000 <= rate <= 48000 for rate in rates), f"rates {rates}")
    found = await transcripts(stt, [*spoken(subject, stt, 2.0), Flush()])
    require(bool(found), "no transcript came")
    heard = found[-1].audio_s
    require(
        abs(heard - 2.0) <= TOLERANCE_S, f"2.00 s at {rates[0]} Hz were counted as {heard:.2f} s"
    )
    return f"{', '.join(str(rate) for rate in rates)} Hz"


@check("silence and a quiet line give no words")
async def silence_gives_no_words(subject: Subject) -> str:
    """Recognizers invent sentences in silence; a caller who says nothing has said nothing."""
    stt: SpeechToText = subject.provider
    rate = rate_of(stt)
    for name, pcm in (
        ("3 s of silence", sound.silence(3.0, rate)),
        ("0.4 s of silence", sound.silence(0.4, rate)),
        ("3 s of noise at -60 dBFS", sound.faint_noise(3.0, rate)),
    ):
        found = await transcripts(stt, [*sound.frames(pcm, rate), Flush()])
        words = [one.text for one in found if one.text.strip()]
        require(not words, f"{name} became {words[-1]!r}" if words else "")
    return ""


@check("a stream without audio ends without words")
async def nothing_in_nothing_out(subject: Subject) -> str:
    """The caller may hang up before the first frame."""
    found = await transcripts(subject.provider, [])
    require(not any(one.text.strip() for one in found), "words came from no audio")
    return ""


@check("two streams at once do not mix")
async def streams_do_not_mix(subject: Subject) -> str:
    """One object serves all calls."""
    stt: SpeechToText = subject.provider
    rate = rate_of(stt)
    speech: list[Audio] = [*spoken(subject, stt, 2.4), Flush()]
    quiet: list[Audio] = [*sound.frames(sound.silence(1.2, rate), rate), Flush()]
    alone = await transcripts(stt, speech)
    together, beside = await asyncio.gather(transcripts(stt, speech), transcripts(stt, quiet))
    require(
        not any(one.text.strip() for one in beside),
        "words of one stream came out of another, which was silent",
    )
    for found, seconds in ((together, 2.4), (beside, 1.2)):
        check_order(found)
        finals = [one for one in found if one.is_final]
        require(len(finals) == 1, f"one flush got {len(finals)} finals beside another stream")
        off = abs(finals[0].audio_s - seconds)
        require(off <= TOLERANCE_S, f"{seconds} s of audio were counted as {finals[0].audio_s} s")
    words = [run[-1].text for run in (alone, together)]
    require(
        bool(words[0].strip()) == bool(words[1].strip()),
        f"alone it heard {words[0]!r}, beside another stream {words[1]!r}",
    )
    return ""


@check("cancelled, it stops within 20 ms and leaves no task")
async def it_is_cancelled_quickly(subject: Subject) -> str:
    """A caller who goes on speaking makes the transcript in progress worthless."""
    stt: SpeechToText = subject.provider
    pieces = spoken(subject, stt, 4.0)

    async def audio() -> AsyncIterator[Audio]:
        async for piece in given([*pieces, Flush()]):
            yield piece
        await asyncio.Event().wait()

    return await cancel_quickly(lambda: stt.transcribe(audio(), SttRequest(call_id="check")))


@check("after a cancel the next stream works")
async def it_recovers_from_cancel(subject: Subject) -> str:
    """Nothing of the cancelled stream may stand in the way."""
    stt: SpeechToText = subject.provider
    with suppress(NotApplicableError, ViolationError):  # how fast it stops is another check
        await it_is_cancelled_quickly.body(subject)
    found = await transcripts(stt, [*spoken(subject, stt, 1.0), Flush()])
    require([one.is_final for one in found][-1:] == [True], "no final came")
    return ""


@check("audio that breaks off with an error ends the stream")
async def a_broken_source_ends_it(subject: Subject) -> str:
    """Neither a hang nor a final made of half the truth."""
    stt: SpeechToText = subject.provider
    audio = breaking(spoken(subject, stt, 0.6))
    return await ends_when_its_source_breaks(stt.transcribe(audio, SttRequest(call_id="check")))


@check("the event loop is never blocked longer than 20 ms")
async def the_loop_stays_free(subject: Subject) -> str:
    """A frame of every call leaves each 20 ms."""
    stt: SpeechToText = subject.provider
    audio: list[Audio] = [*spoken(subject, stt, 6.0), Flush()]
    return await loop_stays_free(lambda: transcripts(stt, audio))


@check("interim results come while audio still arrives, if it says so")
async def interims_come(subject: Subject) -> str:
    """Fed at the pace of speech, as in a call."""
    stt: SpeechToText = subject.provider
    if not stt.capabilities.interim_results:
        raise NotApplicableError("it has no interim results")

    async def audio() -> AsyncIterator[Audio]:
        for piece in spoken(subject, stt, 4.0):
            await asyncio.sleep(sound.FRAME_S)
            yield piece
        yield Flush()

    found = await collect(stt.transcribe(audio(), SttRequest(call_id="check")))
    check_order(found)
    interims = sum(not one.is_final for one in found)
    require(
        bool(interims) or not found[-1].text.strip(), "words came, and none of them as an interim"
    )
    return f"{interims} in 4 s"


CHECKS: tuple[Check, ...] = (
    a_flush_gets_a_final,
    the_end_gets_a_final,
    the_order_holds,
    the_rate_is_right,
    silence_gives_no_words,
    nothing_in_nothing_out,
    streams_do_not_mix,
    it_is_cancelled_quickly,
    it_recovers_from_cancel,
    a_broken_source_ends_it,
    the_loop_stays_free,
    interims_come,
)
