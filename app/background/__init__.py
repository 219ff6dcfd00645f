"""What an API process does beside answering: loops that are started again when they fail."""
