"""What steps and families compute with: devices, tensors, random numbers, noise schedules."""
