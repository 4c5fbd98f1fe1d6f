"""`python -m pygen`, where no command `pygen` is on the path."""

import sys

from pygen.cli import main

if __name__ == "__main__":
    sys.exit(main())
