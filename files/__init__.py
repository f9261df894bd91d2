"""What programs read and write: files that stand whole, checkpoints' files, photos as bytes."""
