"""What people are told and shown: why a customer's day went as it did, the path of their days, and micro-segments over time."""
