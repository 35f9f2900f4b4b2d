"""Rows of the scorecard."""
