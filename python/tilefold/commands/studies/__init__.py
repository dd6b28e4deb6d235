"""Studies of `tilefold mechanisms`: what each asks of a retriever and its base, and writes."""
