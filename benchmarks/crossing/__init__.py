"""Which files a task crosses on its way from the event's stream to its outcome."""
