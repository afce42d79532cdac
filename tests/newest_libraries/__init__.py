"""The newest libraries that the requirements allow, looked at."""
