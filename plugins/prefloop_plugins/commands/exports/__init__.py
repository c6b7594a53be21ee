"""What a run has learnt, in the formats of other tools: fused models, GGUF, PEFT adapters, the Hub."""
