"""How the coupling of a run is found: search spaces, and the sweeps over them."""
