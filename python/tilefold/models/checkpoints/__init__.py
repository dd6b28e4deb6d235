"""Reads checkpoints of several libraries strictly: settings, tokenizers, and weights that fit."""
