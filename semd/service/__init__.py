"""Services of a long-running process: logs, notification, hang guard, signals, metrics, storage, failpoints."""
