"""What runs in the API server: routes, uploads, requests in flight, the command that starts it."""
