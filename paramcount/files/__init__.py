"""The structure of files that hold weights, read without loading any and without importing torch."""
