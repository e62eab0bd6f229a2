# SPDX-License-Identifier: Apache-2.0
"""Draws tokens from logits, freely or held to a grammar. Belongs to the loop's thread.

llama.cpp ends the process when a grammar is given a token that it does not accept. So nothing here accepts a
token before `Grammar.allows` said that it may.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Protocol

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from trunkline_llama_cpp.native import Context, Model

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama.cpp's `llama_token_data`."""


class GrammarError(Exception):
    """llama.cpp does not understand a grammar."""


class Grammar:
    """The state of one grammar while a reply follows it.

    Args:
        model: whose tokens it reads.
        text: GBNF with a rule `root`.

    Raises:
        GrammarError: see there.
    """

    def __init__(self, model: Model, text: str) -> None:
        self._handle = llama.llama_sampler_init_grammar(model.vocabulary, text.encode(), b"root")
        if not self._handle:
            raise GrammarError(text)

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        data = np.zeros(1, _CANDIDATE)
        data["id"] = token
        self.mask(_candidates(data))
        return bool(data["logit"][0] == 0)

    def mask(self, candidates: Any) -> None:
        """Set the logits of what may not come next to minus infinity."""
        llama.llama_sampler_apply(self._handle, ctypes.byref(candidates))

    def accept(self, token: int) -> None:
        """Note that `token`, which it allows, was written."""
        llama.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Free it, once."""
        if self._handle is not None:
            llama.llama_sampler_free(self._handle)
            self._handle = None


class Guide(Protocol):
    """Decides when a reply is held to a grammar."""

    grammar: Grammar | None

    def wrote(self, token: int) -> None:
        """Note a token that was drawn, free or held."""
        ...

    def release(self) -> None:
        """Hold the reply to nothing any more."""
        ...


class Sampler:
    """Draws a token from logits: greedily at temperature 0.

    Args:
        temperature: of the softmax.
        top_p: nucleus.
        min_p: least part of the likeliest token's probability.
        seed: for repeatable draws; None draws another seed each time.
        guide: when to hold the reply to a grammar; None for never.
    """

    def __init__(
        self,
        temperature: float,
        top_p: float,
        min_p: float,
        seed: int | None,
        guide: Guide | None = None,
    ) -> None:
        self._guide = guide
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        if temperature <= 0:
            stages = [llama.llama_sampler_init_greedy()]
        else:
            drawn = llama.LLAMA_DEFAULT_SEED if seed is None else seed & 0xFFFFFFFF
            stages = [
                llama.llama_sampler_init_top_k(64),
                llama.llama_sampler_init_top_p(top_p, 1),
                llama.llama_sampler_init_min_p(min_p, 1),
                llama.llama_sampler_init_temp(temperature),
                llama.llama_sampler_init_dist(drawn),
            ]
        for stage in stages:
            llama.llama_sampler_chain_add(self._chain, stage)

    def sample(self, context: Context, index: int) -> int:
        """Draw from the logits of entry `index` of the last step."""
        token: int = llama.llama_sampler_sample(self._chain, context.handle, index)
        if self._guide is None:
            return token
        grammar = self._guide.grammar
        if grammar is not None and not grammar.allows(token):
            token = self._held(grammar, context, index, token)
        self._guide.wrote(token)
        return token

    def _held(self, grammar: Grammar, context: Context, index: int, free: int) -> int:
        """Draw from what the grammar allows. Masking every token is slow, so it comes second."""
        logits = context.logits(index)
        data = np.empty(len(logits), _CANDIDATE)
        data["id"] = np.arange(len(logits))
        data["logit"] = logits
        data["p"] = 0
        candidates = _candidates(data)
        grammar.mask(candidates)
        llama.llama_sampler_apply(self._chain, ctypes.byref(candidates))
        drawn = candidates.data[candidates.selected]
        if math.isfinite(drawn.logit) and grammar.allows(drawn.id):
            return int(drawn.id)
        assert self._guide is not None
        self._guide.release()  # the vocabulary has nothing that the grammar would take
        return free

    def close(self) -> None:
        """Free the chain, once, and what the guide holds."""
        if self._guide is not None:
            self._guide.release()
        if self._chain is not None:
            llama.llama_sampler_free(self._chain)
            self._chain = None


def _candidates(data: NDArray[np.void]) -> Any:
    """Return llama.cpp's view of `data`, which must outlive it."""
    return llama.llama_token_data_array(
        data=data.ctypes.data_as(llama.llama_token_data_p),
        size=len(data),
        selected=-1,
        sorted=False,
    )
