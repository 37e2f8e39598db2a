"""Autofocus methods a user could pick instead of semd, on the same virtual microscope and by the same truth."""
