"""What `lab/lab` is made of: one concept a file, standard library only, Python 3.11 and later."""
