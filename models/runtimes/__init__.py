"""One small file per model format; `base` is the protocol they meet."""
