"""What the service does: one verb per file. Transactions are opened here and nowhere else."""
