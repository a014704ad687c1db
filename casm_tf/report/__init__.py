"""What is said of an evaluation: figures, charts, tables, the page."""
