"""The systems that the paper compares its model with, a file each, and the table of all."""
