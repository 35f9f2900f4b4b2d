"""A run that was kept: which of its checkpoints is meant, the model in it, and pictures rendered with that."""
