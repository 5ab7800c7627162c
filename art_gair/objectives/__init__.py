"""What training minimises: one file a base objective."""
