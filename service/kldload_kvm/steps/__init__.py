"""The kinds of steps: how each is described, done, recognized on the host, and undone."""
