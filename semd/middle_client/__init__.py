"""Sends action files to the microscope over its socket: its own process, which loads no network."""
