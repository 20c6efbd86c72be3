"""How the outcome of a payment is learned: by callback, query, status, pull, or because its time is up."""
