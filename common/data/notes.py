"""What a user should know of a set and need not be stopped by: a line on stderr, each once, by the first of several processes alone."""

import os
import sys
from functools import cache


@cache
def note(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(f"note: {text}", file=sys.stderr, flush=True)
