"""The commands of `slowthink`. As `python -m slowthink.cli.app` they import nothing from the
working folder, which Python puts first on the path and where anybody's files may lie."""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:  # while the program's module is looked up
    del sys.path[0]
