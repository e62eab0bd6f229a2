# SPDX-License-Identifier: Apache-2.0
"""A byte-level BPE over the dialogues, in which a capitalised word never holds its space.

So a name has the same tokens in a sentence, after a space, and in a tool call, after a quote, and
copying it is copying. The merges alone bring that about: at run time GPT-2's ordinary
pre-tokenizer is used, which llama.cpp has too.
"""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder

from recipe.llm.chat import SPECIALS, rendered
from recipe.llm.conversation import random_dialogue

VOCABULARY = 2048
_DIALOGUES = 5000
END, START, STOP = range(3)  # ids of SPECIALS


def train(seed: int) -> Tokenizer:
    """Learn the merges from random dialogues."""
    tokenizer = Tokenizer(models.BPE())
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(" (?=[A-Z])"), behavior="isolated"), bytes_of]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(seed)
    texts = ("".join(text for text, _ in rendered(random_dialogue(rng))) for _ in range(_DIALOGUES))
    plain = (
        part
        for text in texts
        for part in text.replace("<|im_end|>", "<|im_start|>").split("<|im_start|>")
    )
    tokenizer.train_from_iterator(plain, trainer)
    tokenizer.pre_tokenizer = bytes_of
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer


def load_or_train(path: Path, seed: int) -> Tokenizer:
    """The tokenizer of a work folder, made on first use."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train(seed).save(str(path))
    return Tokenizer.from_file(str(path))
