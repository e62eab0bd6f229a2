# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of the model files. Written by `python -m recipe.checksums`; do not edit."""

ASR: dict[str, str] = {
    "config.json": "3559e281e1b900603d8c21642b26d74ffc5abdc53f031a7761093c75dc116a71",
    "model.bin": "5f463ca898a84849410ed735bf334ce5b4d99c8b40f3415813768dc78d005390",
    "preprocessor_config.json": "061dd192c4da44d2df3f66e725352456ee59e04373a20f4e05282baebd1d5a60",
    "tokenizer.json": "d9dc3ed5ebb26efc02da5c2fffa2cc840ea6da422d42d1a3f1d3c49eeb5838ea",
    "vocabulary.json": "93ad2d99f078ec860f7ea16f84cbafd44997812b022307da5361ab16987899f6",
}

LLM: dict[str, str] = {
    "starter.gguf": "770669b0b6a80ac225b241c71310ad9d6064183a800c413e0e61f0ab1691a487",
    "starter.gguf.sha256": "5335eb5e05d4464349f257f565c7c3ce0bf229098a9469160d67edd281def9cb",
}
