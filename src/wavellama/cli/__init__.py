"""The command line: argument parsing and error reporting only."""
