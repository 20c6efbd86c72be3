"""Programs of teams that use the payment service, small enough to copy. They know its client and nothing else of it."""
