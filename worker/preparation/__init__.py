"""The prepare job: the products in a data set's photos are found, once."""
