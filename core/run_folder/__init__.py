"""A run's folder: where it lies and in what state it is, who works in it, how far it came, and what it is asked there."""
