"""What goes wrong with the store."""


class StoreError(Exception):
    """The store cannot be used as it is set up; the message is for the operator and shows no password."""


class StoreUnavailable(StoreError):
    """The database cannot be asked just now: it is away, locked or full. Another try may go well."""
