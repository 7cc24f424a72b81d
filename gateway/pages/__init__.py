"""The pages and what they load: `assets.py` serves the files beside it from memory."""
