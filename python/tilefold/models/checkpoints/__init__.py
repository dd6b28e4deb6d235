"""Checkpoints: what a folder of any library holds, read strictly, and weights that must fit."""
