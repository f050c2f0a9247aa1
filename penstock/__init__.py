"""Penstock: streaming publish/subscribe inference on Kafka."""
