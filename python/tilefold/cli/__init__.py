"""The `tilefold` command: verbs, their options, and what they print."""
