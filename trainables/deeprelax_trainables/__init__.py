"""What is trained: one module a workload, each with one function ``config -> Task`` of the module's name."""
