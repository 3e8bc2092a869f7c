"""What a request carries: its spec, the plans and probes that it names, its limits, what comes back."""
