"""Random attacks on decoders, readers and sessions: `python -m tests.fuzz`, or `make fuzz`.

Each module named after a target has two functions: `make` gives a random case, which is a tuple of
bytes, and `check` fails if the case breaks a law. What was found is pinned down by ordinary tests.
"""
