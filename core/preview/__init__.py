"""Prompts, and the pictures that are rendered of them, in a run and after it."""
