"""The study of neurons: attribution, interventions, and what they change."""
