"""Classification in the API process: photo classifiers of model versions and data sets."""
