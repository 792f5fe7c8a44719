import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path: this lets them share worlds.py
pytest.register_assert_rewrite("contract")
