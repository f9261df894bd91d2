"""What programs say in a terminal or a log, and how their flags are made."""
