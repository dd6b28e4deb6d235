"""Findings: what several runs of a study say about the claims of the paper."""
