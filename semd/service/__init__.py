"""What every long-running process needs: logs, notification, hang guard, signals, metrics, storage, failpoints."""
