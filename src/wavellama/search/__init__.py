"""Search for the best token sequence, over a three-method view of a decoder."""
