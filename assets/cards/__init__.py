"""Asset cards: models, tokenizers, data sets."""
