"""A saving that is proved: the simplified program is written, run beside the original, and compared."""
