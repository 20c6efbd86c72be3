"""The migrations, in order. Written by hand; each only expands, or contracts what no running release uses."""
