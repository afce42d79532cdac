"""A mesh in which very much is kept, and whether anything in it takes longer for that."""
