"""Safaricom's Daraja API: what goes over its wire, and what its answers mean."""
