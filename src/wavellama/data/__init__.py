"""Data sets: utterances, and the reader that turns them into batches."""
