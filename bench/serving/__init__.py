"""What the benchmark of the service is made of: who serves, who asks, who accounts, who draws."""
