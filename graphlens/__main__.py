"""`python -m graphlens`."""

from graphlens.cli import main

main()
