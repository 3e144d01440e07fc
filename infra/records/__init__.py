"""What stays of calls: written while they happen, encrypted if wanted, read again, and deleted in time."""
