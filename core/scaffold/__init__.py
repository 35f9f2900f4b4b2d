"""Files to begin with, written for an author."""
