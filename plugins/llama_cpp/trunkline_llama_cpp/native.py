# SPDX-License-Identifier: Apache-2.0
"""llama.cpp with Python types: a model file, its vocabulary, and one context with its memory.

The calls are those of llama.h. Everything but `Model.tokenize` and `Model.piece` belongs to one thread.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from appliance.plugin import ConfigurationError, ModelNotFoundError, UnavailableError

_LOG = logging.getLogger("trunkline.llama_cpp")
_LEVELS = {3: logging.INFO, 4: logging.ERROR}


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _data: Any) -> None:
    """llama.cpp writes about everything; its warnings and errors are for the log, not for stderr."""
    _LOG.log(_LEVELS.get(level, logging.DEBUG), "%s", text.decode(errors="replace").rstrip())


llama.llama_log_set(_log, ctypes.c_void_p(0))

_KV_TYPES = {"f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0}


class Model:
    """A loaded GGUF file.

    Args:
        path: the file.
        gpu_layers: layers that go to a GPU; -1 for all.
        visible: texts of control tokens that are rendered (marks of tool calls); others are not.
    """

    def __init__(self, path: Path, gpu_layers: int, visible: frozenset[str]) -> None:
        if not path.is_file():
            raise ModelNotFoundError(f"there is no model file {path}")
        llama.llama_backend_init()
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0x7FFFFFFF if gpu_layers < 0 else gpu_layers
        self.handle = llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise ModelNotFoundError(
                f"llama.cpp cannot load {path}: damaged, or of an architecture it does not know",
                remedy="`trunkline models verify` compares the file with its checksum",
            )
        self._vocab = llama.llama_model_get_vocab(self.handle)
        self.vocabulary_size: int = llama.llama_vocab_n_tokens(self._vocab)
        self.trained_context: int = llama.llama_model_n_ctx_train(self.handle)
        self.splits_memory = not (
            llama.llama_model_is_recurrent(self.handle) or llama.llama_model_is_hybrid(self.handle)
        )
        self._pieces: dict[int, bytes | None] = {}
        self.bos: int | None = self._token(llama.llama_vocab_bos(self._vocab))
        self.adds_bos: bool = llama.llama_vocab_get_add_bos(self._vocab)
        template = llama.llama_model_chat_template(self.handle, None)
        self.chat_template = template.decode() if template else ""
        self.control_texts, self._shown = self._control_tokens(visible)
        eos = self._token(llama.llama_vocab_eos(self._vocab))
        self.bos_text = self._text(self.bos)
        self.eos_text = self._text(eos)

    @staticmethod
    def _token(token: int) -> int | None:
        return token if token >= 0 else None

    def _text(self, token: int | None) -> str:
        return self._raw(token, special=True).decode(errors="replace") if token is not None else ""

    def _control_tokens(self, visible: frozenset[str]) -> tuple[frozenset[str], frozenset[int]]:
        texts: set[str] = set()
        shown: set[int] = set()
        for token in range(self.vocabulary_size):
            if llama.llama_vocab_is_control(self._vocab, token):
                text = self._text(token)
                texts.add(text)
                if text.strip() in visible:
                    shown.add(token)
        return frozenset(texts - {""}), frozenset(shown)

    @property
    def vocabulary(self) -> Any:
        """llama.cpp's own handle of the vocabulary."""
        return self._vocab

    def tokenize(self, text: str, *, begins: bool = True) -> list[int]:
        """Return the tokens of a rendered prompt, whose control tokens are written out.

        Args:
            text: the prompt.
            begins: False for a piece of a text that began before.
        """
        data = text.encode()
        size = len(data) + 8
        buffer = (llama.llama_token * size)()
        count = llama.llama_tokenize(self._vocab, data, len(data), buffer, size, False, True)
        if count < 0:
            raise UnavailableError("llama.cpp could not tokenize the prompt")
        tokens = list(buffer[:count])
        if begins and self.adds_bos and self.bos is not None and tokens[:1] != [self.bos]:
            tokens.insert(0, self.bos)
        return tokens

    def piece(self, token: int) -> bytes | None:
        """Return the bytes of a token, which may end inside a character; None ends the reply."""
        try:
            return self._pieces[token]
        except KeyError:
            ends = llama.llama_vocab_is_eog(self._vocab, token)
            piece = None if ends else self._raw(token, special=token in self._shown)
            return self._pieces.setdefault(token, piece)

    def _raw(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count: int = llama.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def close(self) -> None:
        """Free the model; every context of it must be closed."""
        llama.llama_model_free(self.handle)


@dataclass(frozen=True, slots=True)
class Entry:
    """One token of a step: its sequence, its position there, and whether its logits are wanted."""

    token: int
    position: int
    sequence: int
    logits: bool


class NoRoomError(Exception):
    """The context has no free cells for the step; nothing was changed."""


class Context:
    """A context with one memory that all its sequences share.

    Args:
        model: the model.
        tokens: cells of the memory.
        sequences: most sequences at once.
        batch: most tokens of a step.
        threads: threads of a step.
        kv_type: `f16` or `q8_0`.
    """

    def __init__(
        self, model: Model, *, tokens: int, sequences: int, batch: int, threads: int, kv_type: str
    ) -> None:
        params = llama.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = max(batch, sequences)
        params.n_ubatch = params.n_batch
        params.n_seq_max = sequences
        params.n_outputs_max = sequences  # each sequence reads the logits of one token
        params.n_threads = threads
        params.n_threads_batch = threads
        params.type_k = _KV_TYPES[kv_type]
        params.type_v = _KV_TYPES[kv_type]
        params.kv_unified = True  # sequences that begin alike share the cells of what they share
        params.swa_full = True  # else the tail of a sequence could not be removed
        params.no_perf = True
        self._handle = llama.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise ConfigurationError(
                f"llama.cpp cannot make a context of {tokens} tokens for {sequences} sequences",
                remedy="lower context_tokens or max_sequences",
            )
        self._vocabulary_size = model.vocabulary_size
        self._memory = llama.llama_get_memory(self._handle)
        self.tokens: int = llama.llama_n_ctx(self._handle)
        self.batch_size: int = llama.llama_n_batch(self._handle)  # a larger step aborts the process
        self._batch = llama.llama_batch_init(self.batch_size, 0, 1)

    def step(self, entries: Sequence[Entry]) -> None:
        """Compute one step. Its logits are read by `Sampler.sample` until the next step.

        Raises:
            NoRoomError: no free cells.
            UnavailableError: llama.cpp failed; the memory's state is unknown: `clear` it.
        """
        batch = self._batch
        batch.n_tokens = len(entries)
        for index, entry in enumerate(entries):
            batch.token[index] = entry.token
            batch.pos[index] = entry.position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = entry.sequence
            batch.logits[index] = entry.logits
        result = llama.llama_decode(self._handle, batch)
        if result == 1:
            raise NoRoomError
        if result != 0:
            raise UnavailableError(f"llama_decode returned {result}")

    def logits(self, index: int) -> NDArray[np.float32]:
        """Return the logits of entry `index` of the last step, shape (vocabulary,), until the next step."""
        pointer = llama.llama_get_logits_ith(self._handle, index)
        return np.ctypeslib.as_array(pointer, (self._vocabulary_size,))

    def copy(self, source: int, target: int, end: int) -> None:
        """Let `target` share the first `end` tokens of `source`; `target` must be empty."""
        llama.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def cut(self, sequence: int, start: int) -> bool:
        """Forget the tokens from `start` on; False when this kind of memory cannot."""
        return bool(llama.llama_memory_seq_rm(self._memory, sequence, start, -1))

    def forget(self, sequence: int) -> None:
        """Forget a sequence."""
        llama.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        """Forget everything."""
        llama.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Free the context."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self._handle)

    @property
    def handle(self) -> Any:
        """llama.cpp's own handle."""
        return self._handle
