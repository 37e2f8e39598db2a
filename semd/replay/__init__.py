"""Record and play back frame sequences through the very same pipeline."""
