"""The boards: their rules, their keys in Redis, and the places of players on them."""
