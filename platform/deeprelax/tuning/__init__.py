"""Finding the coupling: search spaces, the shared study, the sweep."""
