"""Bundles, their repository, the contract between events and a model, and the runtimes that score a frame."""
