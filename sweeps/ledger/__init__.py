"""The durable state of a sweep: its directory, the records in it, and the front that they make."""
