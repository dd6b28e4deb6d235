"""Files on disk: tensors, published folders, atomic replacement, steps that are done once."""
