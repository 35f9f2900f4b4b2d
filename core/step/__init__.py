"""The closed step: all that happens between the first forward and the weights that have moved, and what it reports."""
