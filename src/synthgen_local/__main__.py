"""`python -m synthgen_local` is `synthgen-local`."""

import sys

if not sys.flags.safe_path:
    del sys.path[0]  # the folder that it was started in: a numpy.py in it is none of ours

from synthgen_local.cli import main

main()
