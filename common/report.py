"""One HTML page of finished runs: tables, figures, training curves, recipes, provenance, and the most confident mistakes."""

from common.cli.errors import command
from common.results.report import main

if __name__ == "__main__":
    command(main)
