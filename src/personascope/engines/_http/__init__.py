"""What the two servers have in common: plans by name, the store's routes, policy, metrics and logs."""
