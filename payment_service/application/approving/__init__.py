"""Two persons: what one asks for, and a second one agrees to, refuses, or leaves waiting."""
