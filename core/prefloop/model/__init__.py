"""The model being trained: loaded, split in backbone and head, given adapters, held against its reference."""
