"""What one training step minimises, a file a method."""
