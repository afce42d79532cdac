"""What people would take instead, measured beside the mesh in the same run."""
