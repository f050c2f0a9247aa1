"""Worked examples: whole deployments with real data."""
