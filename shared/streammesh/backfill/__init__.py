"""The past for a service that comes late: kept events handed over as if it had subscribed then."""
