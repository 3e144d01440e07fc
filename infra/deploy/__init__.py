"""What a deployment is made of: images, compose file, units, the proxy. docs/deploy.md says how to use it."""
