"""One replica: flat weights, the training loop, telemetry and checkpoints."""
