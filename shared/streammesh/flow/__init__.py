"""What a subscription says of its flow control: limits, and the paths of its keys. Pure."""
