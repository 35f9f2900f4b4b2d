"""Caches of what frozen encoders make of pictures and captions, keyed on everything that it follows from (P13)."""
