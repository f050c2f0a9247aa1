"""What applications import: produce events, subscribe to inferences."""
