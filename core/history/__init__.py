"""What a run writes of itself, and what is read from it later: by `runs`, `compare`, reports and the live view."""
