"""The command line: the only place that prints, writes files and sets exit codes."""
