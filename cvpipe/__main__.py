"""`python -m cvpipe` is the `cvpipe` command."""

import sys

from cvpipe.cli import main

sys.exit(main())
