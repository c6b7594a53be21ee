"""Tiny stand-ins for what a model folder holds, built in a moment and the same every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PAD, TURN, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
THINK, ANSWER = "<think>", "</think>"
CORPUS = (
    "What does a cow say? A cow says moo. Which is better, the first answer or the second?",
    "Write a short story about a cat and a dog who travel to the sea and find a friend in the rain.",
)

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
"""Qwen3's chat template without tools: thinking is on unless it is switched off."""


def tokenizer_files(folder: Path, vocab_size: int = 320, chat_template: str | None = CHATML) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``: byte-level BPE, so that any text encodes.

    The vocabulary has at most `vocab_size` entries: 5 special tokens, 256 bytes, and merges.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, TURN, END, THINK, ANSWER],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=bpe, eos_token=END, pad_token=PAD, chat_template=chat_template)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def build_tokenizer(folder: Path, vocab_size: int = 320, chat_template: str | None = CHATML) -> Any:
    """The tokenizer of `tokenizer_files`, as mlx-lm loads it (a `TokenizerWrapper`)."""
    from mlx_lm.utils import load_tokenizer

    tokenizer_files(folder, vocab_size, chat_template)
    return load_tokenizer(folder)
