"""`python -m synthgen_local` is `synthgen-local`."""

from synthgen_local.cli import main

main()
