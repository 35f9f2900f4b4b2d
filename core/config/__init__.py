"""The config: its tables and keys, how a file becomes one, and its JSON schema."""
