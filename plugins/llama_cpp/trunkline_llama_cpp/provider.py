# SPDX-License-Identifier: Apache-2.0
"""The language model as the core sees it: dialogues in, text and tool calls out, for all calls at once."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from pathlib import Path

from appliance.plugin import (
    BuildContext,
    ConfigurationError,
    LlmCapabilities,
    LlmDelta,
    LlmRequest,
    ModelNotFoundError,
    ProviderError,
    TokenUsage,
    ToolSpec,
)
from trunkline_llama_cpp.jobs import Job, News, Prompt
from trunkline_llama_cpp.load import LlmLoad
from trunkline_llama_cpp.native import Context, Model
from trunkline_llama_cpp.replies import VISIBLE_MARKS, ReplyParser
from trunkline_llama_cpp.sampling import Sampler
from trunkline_llama_cpp.settings import LlamaCppSettings
from trunkline_llama_cpp.steps import StepLoop
from trunkline_llama_cpp.template import ChatTemplate
from trunkline_llama_cpp.tool_grammar import ToolGrammars, ToolGuide

_AGENTS = 64
"""Agents whose prompts and tools are remembered."""


def build_model(settings: LlamaCppSettings, context: BuildContext) -> LlamaModel:
    """Load the model, make its context, and start the step loop; see `trunkline_llama_cpp.build`."""
    model = Model(_gguf(context.model_path(settings.model)), settings.gpu_layers, VISIBLE_MARKS)
    try:
        template = _template(settings, model)
        native = Context(
            model,
            tokens=settings.context_tokens,
            sequences=settings.max_sequences,
            batch=max(settings.batch_tokens, settings.max_sequences + settings.prefill_chunk),
            threads=settings.threads or context.threads,
            kv_type=settings.kv_type,
        )
    except ConfigurationError:
        model.close()
        raise
    steps = StepLoop(
        model,
        native,
        sequences=settings.max_sequences,
        prefill_chunk=settings.prefill_chunk,
        keep_idle_s=settings.keep_idle_s,
    )
    return LlamaModel(settings, model, template, steps)


def _template(settings: LlamaCppSettings, model: Model) -> ChatTemplate:
    text = settings.chat_template or model.chat_template
    if not text:
        raise ConfigurationError(
            "the model has no chat template", remedy="give one in the setting chat_template"
        )
    return ChatTemplate(text, model.bos_text, model.eos_text, model.control_texts)


def _gguf(path: Path) -> Path:
    """Return `path`, or the one GGUF file in the folder `path`."""
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) != 1:
        raise ModelNotFoundError(
            f"{path} holds {len(files)} GGUF files", remedy="name one of them in the setting model"
        )
    return files[0]


class LlamaModel:
    """`LanguageModel` over one step loop.

    Args:
        settings: see there.
        model: for tokenizing.
        template: the chat template.
        steps: the running loop; `aclose` ends it.
    """

    def __init__(
        self, settings: LlamaCppSettings, model: Model, template: ChatTemplate, steps: StepLoop
    ) -> None:
        self._settings = settings
        self._model = model
        self._template = template
        self._steps = steps
        self._opening = lru_cache(maxsize=_AGENTS)(self._tokenized)
        self._known_grammars: dict[str, ToolGrammars] = {}
        self.capabilities = LlmCapabilities(context_tokens=steps.longest)

    async def reply(self, request: LlmRequest) -> AsyncIterator[LlmDelta]:
        """Stream a reply; see `appliance.plugin.LanguageModel`.

        Raises:
            InvalidRequestError: the prompt is too long, or the model's template refuses the dialogue.
            UnavailableError: llama.cpp failed, or the model is closed.
        """
        news: asyncio.Queue[News] = asyncio.Queue()
        parser = ReplyParser(tools=bool(request.tools))
        grammars = self._grammars(request.tools)
        job = Job(
            prepare=lambda: self._prompt(request, parser),
            max_tokens=request.max_tokens,
            sampler=lambda: self._sampler(request, grammars),
            listener=asyncio.get_running_loop(),
            tell=news.put_nowait,
            call_id=request.call_id,
            pace=request.pace,
        )
        text = codecs.getincrementaldecoder("utf-8")("replace")
        self._steps.submit(job)
        unwatch = (
            request.pace.watch(lambda: self._steps.pace_changed(job)) if request.pace else None
        )
        try:
            while True:
                what = await news.get()
                if isinstance(what, ProviderError):
                    raise what
                if isinstance(what, TokenUsage):
                    for delta in [*parser.feed(text.decode(b"", final=True)), *parser.end()]:
                        yield delta
                    yield what
                    return
                for delta in parser.feed(text.decode(what)):
                    yield delta
        finally:
            if unwatch:
                unwatch()
            self._steps.cancel(job)

    def load(self) -> LlmLoad:
        """Return how busy the model is; for any thread."""
        return self._steps.load()

    def _prompt(self, request: LlmRequest, parser: ReplyParser) -> Prompt:
        text = self._template.prompt(request.messages, request.tools)
        if text.rstrip().endswith("<think>"):
            parser.begin_in_thought()
        tokens = self._model.tokenize(text)
        opening = self._opening(self._template.opening(request.messages, request.tools))
        return Prompt(tokens, _agreement(tokens, opening))

    def _tokenized(self, text: str) -> tuple[int, ...]:
        return tuple(self._model.tokenize(text)) if text else ()

    def _sampler(self, request: LlmRequest, grammars: ToolGrammars | None) -> Sampler:
        settings = self._settings
        guide = ToolGuide(self._model, grammars) if grammars else None
        return Sampler(request.temperature, settings.top_p, settings.min_p, request.seed, guide)

    def _grammars(self, tools: Sequence[ToolSpec]) -> ToolGrammars | None:
        """Return the tools' grammars, which an agent's calls share; None where calls are not held to any."""
        if not tools or not self._settings.guide_tool_calls:
            return None
        key = json.dumps([[tool.name, dict(tool.parameters)] for tool in tools])
        if key not in self._known_grammars:
            if len(self._known_grammars) >= _AGENTS:
                self._known_grammars.clear()
            self._known_grammars[key] = ToolGrammars(tools)
        return self._known_grammars[key]

    async def aclose(self) -> None:
        """End the step loop and free the model. Idempotent."""
        await asyncio.shield(asyncio.wrap_future(self._steps.close()))
        self._steps.join()


def _agreement(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
