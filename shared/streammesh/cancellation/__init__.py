"""Events that cancel: the open tasks of a subscription end when an event of another type comes."""
