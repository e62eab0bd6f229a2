# SPDX-License-Identifier: Apache-2.0
"""A small byte-level BPE laid out the way Whisper's runtime expects.

Text tokens come first and the specials after them, beginning with `<|endoftext|>`: CTranslate2
and faster-whisper tell text from control by that order.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

EOT = "<|endoftext|>"
SOT = "<|startoftranscript|>"
NO_SPEECH = "<|nospeech|>"
NO_TIMESTAMPS = "<|notimestamps|>"
SPECIALS = (
    EOT, SOT, "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
    NO_SPEECH, NO_TIMESTAMPS,
)  # fmt: skip
TEXT_TOKENS = 768


def train(texts: Iterable[str], path: Path) -> Tokenizer:
    """Learn the merges from the training texts and save the tokenizer."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=TEXT_TOKENS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator((" " + text for text in texts), trainer)
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.save(str(path))
    return tokenizer


def load(path: Path) -> Tokenizer:
    """A tokenizer saved by `train`."""
    return Tokenizer.from_file(str(path))


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token. Raises KeyError where the tokenizer has none."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return int(found)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Text token ids; like Whisper's transcripts, the text begins with a space."""
    return list(tokenizer.encode(" " + text).ids) if text else []
