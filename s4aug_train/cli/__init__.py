"""The command line: it parses, calls the trainer, and prints."""

from .main import main as main
