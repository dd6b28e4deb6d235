"""Activation patching: how much of a score each head, feed-forward block and token carries."""
