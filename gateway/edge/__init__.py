"""What stands before every handler."""
