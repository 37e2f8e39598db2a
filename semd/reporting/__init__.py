"""Reports: tables as text and the same figures as JSON files."""
