"""``python -m deeprelax``: the command line."""

from deeprelax.cli import main

main()
