"""Where a run happens: in this process or on Ray Train workers, with the same loop and the same numbers."""
