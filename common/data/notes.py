"""What a user should know of a set and need not be stopped by: a line on stderr, each once, by the first of several processes alone."""

import sys
from functools import cache

from common.cli.errors import group


@cache
def note(text: str) -> None:
    if group()[0] == 0:
        print(f"note: {text}", file=sys.stderr, flush=True)
