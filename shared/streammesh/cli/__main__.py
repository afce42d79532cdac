"""`python -m streammesh.cli`, the same as `streammesh`."""

from streammesh.cli import main

main()
