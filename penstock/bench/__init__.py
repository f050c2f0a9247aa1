"""Measures a system that scores one topic into another, `penstock bench`, and all of `scripts/bench`."""
