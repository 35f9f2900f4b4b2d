"""Checkpoints: written beside training, complete or absent, that resume everything.

A checkpoint is a folder `step-00000500/` of safetensors and JSON. `writer` takes it from a snapshot and writes it in a
thread; `commit` builds it under a temporary name, flushes every file, puts the manifest with sizes and sha256 last,
makes it visible by one rename and reads it back; only then `folder` lets older ones go. There is no `latest` pointer to
be wrong: the newest is found by looking.
"""
