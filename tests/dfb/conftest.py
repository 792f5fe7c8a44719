import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "common/scorers"))  # the contract and its worlds
pytest.register_assert_rewrite("contract")
