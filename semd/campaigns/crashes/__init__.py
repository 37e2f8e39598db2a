"""`semd evaluate crashes`: real processes die, or find the disk full, at every failpoint; what became of the frames?"""
