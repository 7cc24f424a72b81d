"""Actions: action types, one-time action tokens, proofs."""
