"""Prompts: from files, folders and the Hub, as conversations, in a seeded order."""
