"""`python -m redpencil`."""

from redpencil.cli import main

main()
