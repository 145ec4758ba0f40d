"""What the decoder reads: parts, syntaxes made of parts, and their assembly. No networks."""
