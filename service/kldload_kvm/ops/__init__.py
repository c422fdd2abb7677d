"""One file an operation: each a request and the pure function that turns it into a plan."""
