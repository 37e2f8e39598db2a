"""The soak: many frames with random faults through real processes and a real socket, and what that does to them."""
