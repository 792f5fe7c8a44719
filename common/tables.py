"""Rows of results as a table: one line a method and scorer, one column an OOD set, mean +- std over seeds."""

from common.cli.errors import command
from common.results.tables import main

if __name__ == "__main__":
    command(main)
