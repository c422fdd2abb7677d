"""What generate.py makes, one module a kind."""
