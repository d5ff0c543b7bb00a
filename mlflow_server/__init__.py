"""The MLflow tracking server."""
