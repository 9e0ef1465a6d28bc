"""What starts runs and what is run by hand: jobs, the schedule, the sensor, erasure."""
