"""The ledger of awards and the boards that rank them."""
