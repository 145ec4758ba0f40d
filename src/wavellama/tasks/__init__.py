"""The fairseq2 recipes: train, eval, transcribe."""
