"""Is one detector better than another on the same images? Paired differences with bootstrap intervals."""

from common.cli.errors import command
from common.results.compare import main

if __name__ == "__main__":
    command(main)
