"""Sampling completions: token ids in and token ids out."""

from __future__ import annotations

from prefloop.sampling.generator import Generator

__all__ = ["Generator"]
