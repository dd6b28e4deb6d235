"""Processes of a distributed training: collectives over rows, and work done by one of them."""
