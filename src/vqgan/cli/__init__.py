"""The command line: one file a command, each with one flat dataclass of its flags."""
