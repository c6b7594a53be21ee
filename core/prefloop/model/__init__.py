"""The model being trained: loaded, split, given adapters, held against its reference."""
