"""What only writes pages, and what sets up the environments."""
