"""Text: the language table."""
