"""What is told of runs and data, on the terminal or as a page that is one file: sections, tables, charts, pictures."""
