"""The Hub's pages, as people see them in a browser."""
