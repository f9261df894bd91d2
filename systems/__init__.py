"""What a system is: a model that train.py trains and predict.py asks, and how one begins."""
