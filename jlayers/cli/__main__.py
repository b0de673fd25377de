"""`python -m jlayers.cli`, for where the command `jlayers` is not on the path."""

import sys

from jlayers.cli import main

if __name__ == "__main__":
    sys.exit(main())
