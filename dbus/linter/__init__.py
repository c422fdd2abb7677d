"""What lint.py refuses, one module a kind."""
