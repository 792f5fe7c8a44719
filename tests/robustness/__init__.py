"""What tests/fuzz.py and tests/kills.py share: commands typed in processes forked from one that has imported everything, and a small world of finished runs."""
