"""The lines in which tasks wait for their turn: looking after them, and looking at them."""
