"""Edits of facts: editors, the changes of weights that they compute, their evaluation."""
