"""Short programs over the public API; each is complete by itself and a file to begin from."""
