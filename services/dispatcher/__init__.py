"""Stream to queues: a router, a lane per service that catches up, plus promoter and reclaimers."""
