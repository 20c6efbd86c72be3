"""Keys are replaced: who holds which, what still needs an old one, and what is stored is made anew with the new one."""
