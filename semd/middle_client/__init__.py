"""Box (e): forwards action files to the microscope's socket. Loads neither torch nor cv2."""
