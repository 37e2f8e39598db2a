"""Box (d), the answer: one assessment and one decision per frame, from the frames of the run alone. Pure."""
