"""Box (a): finds complete frames in the watch directory and decodes them."""
