"""Everything on the disk: files named by their hash, the Xet store, and one SQLite database that points at them."""
