"""Stream to queues: one lane per subscribing service, plus promoter and reclaimers."""
