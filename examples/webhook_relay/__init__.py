"""Posts the events of payments to a team that does not speak gRPC: signed, in order per booking, for three days."""
