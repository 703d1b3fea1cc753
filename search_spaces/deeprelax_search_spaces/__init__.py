"""Ready-made search spaces: what a sweep varies, one module for each family of couplings."""
