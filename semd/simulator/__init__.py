"""A virtual tabletop SEM behind the real files and the real socket."""
