"""The contract between the stages: manifest, feature specs, feature store, score tables.

Light on purpose (numpy, pyarrow, zarr): it never imports torch, a decoder or a model library.
"""
