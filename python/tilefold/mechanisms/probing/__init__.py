"""Probes of layers: samples, probes, sweeps over layers and models, tests between them."""
