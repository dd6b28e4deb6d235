"""The study of layers by probes."""
