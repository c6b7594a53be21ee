"""Sampling completions: token ids in and token ids out."""

from prefloop.sampling.generator import Generator as Generator
