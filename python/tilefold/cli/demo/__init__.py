"""`tilefold demo`: the main job on real text, without a network."""
