"""The plugin in the API server: routes, uploads, requests in flight, and the command that starts it."""
