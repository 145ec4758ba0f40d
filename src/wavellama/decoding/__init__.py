"""Where model, prompt and search meet: from a batch to hypotheses."""
