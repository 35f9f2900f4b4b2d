"""From another trainer's files to a config of ours, with a word on what became of each of their keys."""
