"""Neurons: attribution scores, knowledge neurons, surveys over texts, interventions."""
