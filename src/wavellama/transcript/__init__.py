"""What was said, and when: typed results, and the files that people read them from."""
