"""The Middle Client: a separate process that sends action files over TCP and loads no neural network."""
