"""Audio in, text out: inference for people."""
