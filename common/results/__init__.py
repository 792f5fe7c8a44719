"""Rows of results, and what is made of them: tables, figures, the page."""
