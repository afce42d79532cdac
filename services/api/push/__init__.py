"""Being told as it happens: who follows what, one reader of the stream for all, the past for those who were away."""
