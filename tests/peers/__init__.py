"""Other implementations beside ours, in an environment of their own: infra/setup/peers.sh."""
