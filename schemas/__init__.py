"""Wire formats: Avro and JSON events in, inferences and records out; pure functions and the sources of schemas."""
