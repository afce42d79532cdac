"""Other brokers than the mesh's Redis: connections, copies of queue entries, the forwarder."""
