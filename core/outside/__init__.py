"""What leaves this program: HTTP, and other commands."""
