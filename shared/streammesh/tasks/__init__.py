"""Tasks: the ledger of what is to be done, from the hand-off to the outcome."""
