"""Sells seats of trips for M-Pesa: a seat is held, paid, and confirmed exactly once."""
