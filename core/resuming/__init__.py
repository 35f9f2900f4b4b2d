"""What a checkpoint holds of a run, how it gets back into one, and how it becomes a model again."""
