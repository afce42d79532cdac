"""The API's routes, one file each."""
