"""The hot path: poll, decode, score, encode, and one transaction per batch."""
