"""What keeps Redis equal to the ledger: rebuild, audit, filling, and the operator's commands."""
