"""What GGUF has to know of a byte-level BPE vocabulary, read from ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BY_PATTERN = {
    _CONTRACTIONS + _WORDS % "": "qwen2",
    _CONTRACTIONS + _WORDS % "{1,3}": "llama-bpe",
}
"""llama.cpp's names of the patterns by which text is cut before it is merged."""


def pre_tokenizer(about: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for how this tokenizer cuts text; None where it is none that is known here.

    A wrong name would give other tokens for some texts, and nobody would see it.
    """
    if about["model"].get("type") != "BPE" or about["model"].get("byte_fallback"):
        return None
    given = about.get("pre_tokenizer") or {}
    parts = given.get("pretokenizers", [given])
    kinds = [part.get("type") for part in parts]
    last = parts[-1]
    if kinds[-1] != "ByteLevel" or last.get("add_prefix_space"):
        return None
    if kinds == ["ByteLevel"] and last.get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and last.get("use_regex", True):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True):
        return _BY_PATTERN.get(parts[0]["pattern"].get("Regex", ""))
    return None


def tokens_of(about: Mapping[str, Any], size: int) -> tuple[list[str], list[str]]:
    """The texts of all tokens by their id, and the kind of each; rows beyond the vocabulary are unused."""
    texts = [f"[PAD{i}]" for i in range(size)]
    kinds = ["UNUSED"] * size
    for text, i in about["model"]["vocab"].items():
        texts[i], kinds[i] = text, "NORMAL"
    for token in about.get("added_tokens", ()):
        texts[token["id"]] = token["content"]
        kinds[token["id"]] = "CONTROL" if token["special"] else "USER_DEFINED"
    return texts, kinds
