"""What readers do when server, files or the machine go wrong: see ``run.py``."""
