"""The contracts between the units: messages, calls, and who may call what."""
