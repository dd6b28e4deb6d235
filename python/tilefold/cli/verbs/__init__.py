"""The verbs of the `tilefold` command, a file each."""
