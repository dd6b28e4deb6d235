"""Programs to read and to run: each shows one use of tilefold on real data, and checks it."""
