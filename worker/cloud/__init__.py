"""What S3, Google Cloud Storage and Azure need beyond reading and writing objects."""
