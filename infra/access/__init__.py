"""Who may ask this server for what: keys and roles, logins of browsers, limits on requests, and TLS."""
