"""Small programs that waste something, the same programs written by hand without it, and sound look-alikes."""
