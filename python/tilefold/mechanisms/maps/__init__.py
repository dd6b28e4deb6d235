"""Maps from internal states of a model to passages: neurons, layers, and tests of their links."""
