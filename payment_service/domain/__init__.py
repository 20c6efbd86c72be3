"""What a payment is and what may happen to it. Pure: no clock, no I/O, no randomness."""
