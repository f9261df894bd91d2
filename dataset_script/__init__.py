"""The corpus: raw files of a platform -> rows of users with photos and profiles."""
