"""The paper's equations and the protocol's records and rules, pure: no clock, disk, socket, torch or cv2."""
