"""The demo: a virtual microscope gets sharp through the real daemon, files and socket."""
