"""Training. Imports events, never plugins."""
