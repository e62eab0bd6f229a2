# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of the model files. Written by `python -m recipe.checksums`; do not edit."""

ASR: dict[str, str] = {
    "config.json": "3559e281e1b900603d8c21642b26d74ffc5abdc53f031a7761093c75dc116a71",
    "model.bin": "a5a65f364319c5b47e803dba94d78f30da2a0ba56f1fdb215251b09a69cc0cc6",
    "preprocessor_config.json": "061dd192c4da44d2df3f66e725352456ee59e04373a20f4e05282baebd1d5a60",
    "tokenizer.json": "d9dc3ed5ebb26efc02da5c2fffa2cc840ea6da422d42d1a3f1d3c49eeb5838ea",
    "vocabulary.json": "93ad2d99f078ec860f7ea16f84cbafd44997812b022307da5361ab16987899f6",
}

LLM: dict[str, str] = {}
