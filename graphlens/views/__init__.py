"""Records in, text or bytes out; one file per kind of output; no torch."""
