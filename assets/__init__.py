"""Data that ships with wavellama: cards, the architecture table, the language table."""
